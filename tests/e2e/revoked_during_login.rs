//! A login whose hashing straddles the moment at which its user is revoked or disabled: it began before, ends after,
//! and must be dead. No clock says which came first; the epoch that was read with the credential does.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, Tokens};
use nix::sys::signal::Signal;
use rstest::rstest;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::support::{Caller, Countersign, Deployment, PASSWORD, Shape, assert_refused, eventually};

#[derive(Clone, Copy, Debug)]
enum Ending {
    Revoked,
    Disabled,
}

/// CPU time used by the process, in clock ticks (fields 14 and 15 of `/proc/PID/stat`).
fn ticks(server: &Countersign) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A login that is under way, its credential read.
async fn log_in(server: &Countersign, caller: &Caller) -> JoinHandle<Result<Tokens, Status>> {
    let idle = ticks(server);
    let caller = caller.clone();
    let login = tokio::spawn(async move { caller.issue("ada", PASSWORD).await });
    // It hashes: nothing else in there burns a fifth of a second. So the credential, and its epoch, have been read.
    eventually("the login hashes", Duration::from_mins(1), || async {
        (ticks(server) > idle + 20).then_some(())
    })
    .await;
    login
}

/// Disables the user, from outside, while the server stands still: starting a program may take longer than a hash.
fn disable(deployment: &Deployment, server: &mut Countersign) {
    server.signal(Signal::SIGSTOP);
    deployment.storage.run(&["user", "disable", "ada"]).succeed();
    server.signal(Signal::SIGCONT);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_straddles_it_is_dead(
    #[values(Shape::Embedded, Shape::Clustered)] shape: Shape,
    #[values(Ending::Revoked, Ending::Disabled)] ending: Ending,
) {
    let deployment = Deployment::fresh(shape)
        .await
        // A hash of a second or so, and a deadline beyond that on a busy machine.
        .set("password.memory_kib", "4096")
        .set("password.iterations", "150")
        .set("server.default_deadline", "2m")
        .set("server.max_deadline", "2m");
    let user = deployment.add_user("ada", &[]);
    let mut server = deployment.serve();
    let caller = Caller::with_deadline(&server.grpc_url(), Duration::from_mins(2));

    // A machine that is busy elsewhere may let the login end first: then that one shows nothing, and another is made.
    let mut answer = None;
    for _ in 0..10 {
        let login = log_in(&server, &caller).await;
        match ending {
            Ending::Revoked => drop(caller.revoke(Target::UserId(user.clone())).await.unwrap()),
            Ending::Disabled => disable(&deployment, &mut server),
        }
        if !login.is_finished() {
            answer = Some(login.await.unwrap());
            break;
        }
        if matches!(ending, Ending::Disabled) {
            deployment.storage.run(&["user", "enable", "ada"]).succeed();
        }
    }
    let answer = answer.expect("no login lasts longer than what should end it: make the hash slower");
    match ending {
        Ending::Revoked => {
            let tokens = answer.expect("the password was right");
            assert_refused(
                caller.refresh(&tokens.refresh_token).await,
                Code::Unauthenticated,
                "SESSION_REVOKED",
            );
            assert_eq!(
                caller.inactive_reason(&tokens.access_token).await,
                Some(InactiveReason::Revoked)
            );
        }
        // It may be noticed at the end of the login, or make what the login gave worthless.
        Ending::Disabled => match answer {
            Err(status) => assert_refused::<()>(Err(status), Code::Unauthenticated, "INVALID_CREDENTIALS"),
            Ok(tokens) => {
                assert_refused(
                    caller.refresh(&tokens.refresh_token).await,
                    Code::Unauthenticated,
                    "USER_DISABLED",
                );
                caller.until_revoked(&tokens.access_token).await;
            }
        },
    }
}
