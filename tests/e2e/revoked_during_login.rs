//! A user is revoked or disabled during a login, while the password is hashed. The login began before and ends after,
//! so its session must be revoked. No clock decides which came first: the epoch that was read with the credential
//! does.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, Tokens};
use nix::sys::signal::Signal;
use rstest::rstest;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use crate::support::{Caller, Countersign, Deployment, DeploymentKind, PASSWORD, assert_refused, eventually};

#[derive(Clone, Copy, Debug)]
enum Change {
    Revoked,
    Disabled,
}

/// CPU time used by the process, in clock ticks (fields 14 and 15 of `/proc/PID/stat`).
fn ticks(server: &Countersign) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Starts a login, and returns when its credential has been read.
async fn start_login(server: &Countersign, caller: &Caller) -> JoinHandle<Result<Tokens, Status>> {
    let idle = ticks(server);
    let caller = caller.clone();
    let login = tokio::spawn(async move { caller.issue("ada", PASSWORD).await });
    // Only hashing uses a fifth of a second of CPU, so the credential and its epoch have been read by now.
    eventually("the login hashes", Duration::from_mins(1), || async {
        (ticks(server) > idle + 20).then_some(())
    })
    .await;
    login
}

/// Disables the user by a command while the server is suspended: starting a program may take longer than a hash.
fn disable(deployment: &Deployment, server: &mut Countersign) {
    server.signal(Signal::SIGSTOP);
    deployment.storage.run(&["user", "disable", "ada"]).succeed();
    server.signal(Signal::SIGCONT);
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_login_during_a_revocation_is_revoked(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
    #[values(Change::Revoked, Change::Disabled)] change: Change,
) {
    let deployment = Deployment::fresh(deployment_kind)
        .await
        // A hash takes about a second, and the deadline allows more than that on a busy machine.
        .set("password.memory_kib", "4096")
        .set("password.iterations", "150")
        .set("server.default_deadline", "2m")
        .set("server.max_deadline", "2m");
    let user = deployment.add_user("ada", &[]);
    let mut server = deployment.serve();
    let caller = Caller::with_deadline(&server.grpc_url(), Duration::from_mins(2));

    // On a busy machine the login may end first. Then it proves nothing, and another one is made.
    let mut answer = None;
    for _ in 0..10 {
        let login = start_login(&server, &caller).await;
        match change {
            Change::Revoked => drop(caller.revoke(Target::UserId(user.clone())).await.unwrap()),
            Change::Disabled => disable(&deployment, &mut server),
        }
        if !login.is_finished() {
            answer = Some(login.await.unwrap());
            break;
        }
        if matches!(change, Change::Disabled) {
            deployment.storage.run(&["user", "enable", "ada"]).succeed();
        }
    }
    let answer = answer.expect("no login took longer than the revocation: make the hash slower");
    match change {
        Change::Revoked => {
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
        // The login may notice it at its end and fail, or succeed with a session that is not usable.
        Change::Disabled => match answer {
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
