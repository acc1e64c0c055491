//! `CONSISTENCY_STRONG`: Validate answers from the durable record, at every replica.

use std::time::Duration;

use countersign::proto::revoke_request::Target;
use countersign::proto::{Consistency, InactiveReason, ValidateRequest, ValidateResponse};
use tonic::{Code, Status};

use crate::support::proxy::LinkState;
use crate::support::{Caller, Fleet, assert_refused, eventually};

async fn validate_strongly(caller: &Caller, token: &str) -> Result<ValidateResponse, Status> {
    let request = ValidateRequest {
        access_token: token.to_owned(),
        consistency: Consistency::Strong.into(),
        ..ValidateRequest::default()
    };
    Ok(caller.tokens.clone().validate(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strong_validate_reads_the_durable_record() {
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
        assert!(
            validate_strongly(&callers[2], &session.access_token)
                .await
                .unwrap()
                .active
        );
    }
    // The replica receives no more announcements, and does not reconcile by timer during the test.
    fleet.replicas[2].to_redis.set(LinkState::Cut);
    for (session, target) in sessions.iter().zip([
        Target::Token(sessions[0].access_token.clone()),
        Target::UserId(ben),
        Target::SessionId(sessions[2].session_id.clone()),
        Target::ClientId("default".to_owned()),
    ]) {
        callers[0].revoke(target).await.unwrap();
        let local = callers[2].validate(&session.access_token).await.unwrap();
        assert!(local.active, "the replica has not learned of the revocation");
        let answer = validate_strongly(&callers[2], &session.access_token).await.unwrap();
        assert_eq!((answer.active, answer.reason()), (false, InactiveReason::Revoked));
    }
    let since = callers[0].login("ada").await;
    assert!(
        validate_strongly(&callers[2], &since.access_token)
            .await
            .unwrap()
            .active
    );
    callers[0].revoke(Target::Everything(true)).await.unwrap();
    let answer = validate_strongly(&callers[2], &since.access_token).await.unwrap();
    assert_eq!((answer.active, answer.reason()), (false, InactiveReason::Revoked));

    // Without the durable record a strong Validate fails; it does not fall back to local knowledge.
    fleet.replicas[2].to_postgres.set(LinkState::Cut);
    eventually("a strong Validate fails", Duration::from_secs(20), || async {
        let answer = validate_strongly(&callers[2], &callers[1].login("ada").await.access_token).await;
        assert_refused(answer, Code::Unavailable, "STORE_UNAVAILABLE");
        Some(())
    })
    .await;
}
