//! A login whose hashing straddles the moment at which its user is revoked or disabled: it began before, ends after,
//! and must be dead. No clock says which came first; the epoch that was read with the credential does.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{InactiveReason, Tokens};
use rstest::rstest;
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

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_straddles_it_is_dead(
    #[values(Shape::Embedded, Shape::Clustered)] shape: Shape,
    #[values(Ending::Revoked, Ending::Disabled)] ending: Ending,
) {
    let deployment = Deployment::fresh(shape)
        .await
        // A hash of some seconds, and a deadline beyond that on a busy machine.
        .set("password.memory_kib", "4096")
        .set("password.iterations", "400")
        .set("server.default_deadline", "2m")
        .set("server.max_deadline", "2m");
    let user = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::patient(&server.grpc_url(), Duration::from_mins(2));

    let idle = ticks(&server);
    let login: tokio::task::JoinHandle<Result<Tokens, Status>> = tokio::spawn({
        let caller = caller.clone();
        async move { caller.issue("ada", PASSWORD).await }
    });
    // It hashes: nothing else in there burns a fifth of a second. So the credential, and its epoch, have been read.
    eventually("the login hashes", Duration::from_mins(1), || async {
        (ticks(&server) > idle + 20).then_some(())
    })
    .await;
    match ending {
        Ending::Revoked => assert_eq!(caller.revoke(Target::UserId(user)).await.unwrap(), 0),
        Ending::Disabled => drop(deployment.storage.run(&["user", "disable", "ada"]).succeed()),
    }
    assert!(
        !login.is_finished(),
        "the login was over too soon to show anything: make the hash slower"
    );

    let answer = login.await.unwrap();
    match ending {
        Ending::Revoked => {
            let tokens = answer.expect("the password was right");
            assert_refused(
                caller.refresh(&tokens.refresh_token).await,
                Code::Unauthenticated,
                "SESSION_REVOKED",
            );
            assert_eq!(
                caller.inactive(&tokens.access_token).await,
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
