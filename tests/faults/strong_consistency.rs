//! `CONSISTENCY_STRONG`: whoever asks for it is told what the durable record says, wherever they ask.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{Consistency, InactiveReason, ValidateRequest, ValidateResponse};
use tonic::{Code, Status};

use crate::support::proxy::Weather;
use crate::support::{Caller, Fleet, assert_refused, eventually};

async fn strongly(caller: &Caller, token: &str) -> Result<ValidateResponse, Status> {
    let request = ValidateRequest {
        access_token: token.to_owned(),
        consistency: Consistency::Strong.into(),
        ..ValidateRequest::default()
    };
    Ok(caller.tokens.clone().validate(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_has_heard_nothing_asks() {
    let mut fleet = Fleet::start(&[], &[("revocation.max_staleness", "2h")]).await;
    fleet.replicas[2]
        .launch_with("revocation.reconcile_interval", "1h")
        .await;
    let ben = fleet.add_user("ben").await;
    let callers = fleet.callers();
    let mut sessions = Vec::new();
    for name in ["ada", "ben", "ada", "ada", "ada"] {
        sessions.push(callers[0].login(name).await);
    }
    for session in &sessions {
        assert!(strongly(&callers[2], &session.access_token).await.unwrap().active);
    }
    // It hears nothing more, and asks by itself when the test is long over.
    fleet.replicas[2].to_redis.set(Weather::Cut);
    for (session, target) in sessions.iter().zip([
        Target::Token(sessions[0].access_token.clone()),
        Target::UserId(ben),
        Target::SessionId(sessions[2].session_id.clone()),
        Target::ClientId("default".to_owned()),
    ]) {
        callers[0].revoke(target).await.unwrap();
        let local = callers[2].validate(&session.access_token).await.unwrap();
        assert!(local.active, "nobody told it");
        let answer = strongly(&callers[2], &session.access_token).await.unwrap();
        assert_eq!((answer.active, answer.reason()), (false, InactiveReason::Revoked));
    }
    let since = callers[0].login("ada").await;
    assert!(strongly(&callers[2], &since.access_token).await.unwrap().active);
    callers[0].revoke(Target::Everything(true)).await.unwrap();
    let answer = strongly(&callers[2], &since.access_token).await.unwrap();
    assert_eq!((answer.active, answer.reason()), (false, InactiveReason::Revoked));

    // Without the record there is no strong answer, and none is made up.
    fleet.replicas[2].to_postgres.set(Weather::Cut);
    eventually("it cannot be told", Duration::from_secs(20), || async {
        let answer = strongly(&callers[2], &callers[1].login("ada").await.access_token).await;
        assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
        Some(())
    })
    .await;
}
