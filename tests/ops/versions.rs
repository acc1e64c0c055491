//! Tokens, records and scripts of another version: they are recognised, and unknown versions are refused. Two builds on
//! one store are run by `tests/mixed-versions`, which builds the commit before.

use std::time::Duration;

use countersign::proto::revoke_request::Target;

use crate::support::caller::{reason, refresh_bytes, refresh_text};
use crate::support::redis::try_command;
use crate::support::{Caller, Deployment, DeploymentKind, eventually};

#[tokio::test]
async fn a_refresh_token_of_another_version_is_malformed_and_not_reuse() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    let mut bytes = refresh_bytes(&tokens.refresh_token);
    assert_eq!(bytes[0], 1, "the version comes first");
    bytes[0] = 2;
    let end = bytes.len() - 4;
    let sum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&sum.to_be_bytes());
    let refused = caller.refresh(&refresh_text(&bytes)).await.unwrap_err();
    let (_, reason) = reason(&refused);
    assert_eq!(reason, "REFRESH_TOKEN_MALFORMED");
    caller.refresh(&tokens.refresh_token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_record_of_a_newer_version_is_left_alone() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    let user = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    let keys = deployment.keys.as_ref().unwrap();
    let key = format!("{}:s:{{{user}}}", keys.prefix());
    // The first byte of each packed record is its version.
    let raise = "for _, f in ipairs(redis.call('HKEYS', KEYS[1])) do \
                 local v = redis.call('HGET', KEYS[1], f) \
                 redis.call('HSET', KEYS[1], f, string.char(99) .. string.sub(v, 2)) end return 1";
    try_command(keys.url(), &["EVAL", raise, "1", &key]).unwrap();
    let refused = caller.refresh(&tokens.refresh_token).await.unwrap_err();
    // A newer replica can read the record, so the client must retry and keep its token.
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    let lower = raise.replace("string.char(99)", "string.char(1)");
    try_command(keys.url(), &["EVAL", &lower, "1", &key]).unwrap();
    eventually("the record is read again", Duration::from_secs(5), || async {
        caller.refresh(&tokens.refresh_token).await.ok()
    })
    .await;
}

/// Scripts are called by the digest of their text, so two versions on one Redis never run each other's scripts.
#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    // A Redis without the scripts, as after a restart or with another version, loads them again.
    let keys = deployment.keys.as_ref().unwrap();
    try_command(keys.url(), &["SCRIPT", "FLUSH"]).unwrap();
    caller.refresh(&tokens.refresh_token).await.unwrap();
}

/// Each version continues what the other began: logins, refreshes, retries, reuse, revocations, keys. The other version
/// creates the stores, as at an upgrade.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs another build: tests/mixed-versions"]
async fn two_builds_on_one_store_continue_each_others_sessions() {
    let other = std::env::var_os("COUNTERSIGN_TEST_OTHER_BINARY").expect("tests/mixed-versions sets it");
    let other = other.to_str().unwrap();
    let deployment = Deployment::fresh(DeploymentKind::Clustered).await;
    let before = deployment.storage.clone().with_binary(other).serve(&[]);
    deployment.add_user("ada", &[]);
    let after = deployment.serve();
    let callers = [Caller::of(&before), Caller::of(&after)];
    for (one, two) in [(&callers[0], &callers[1]), (&callers[1], &callers[0])] {
        let first = one.login("ada").await;
        two.assert_active(&first.access_token).await;
        let (second, _) = two.refresh(&first.refresh_token).await.unwrap();
        // The reply was lost, and the client retries at the other build: the same bytes.
        let (again, outcome) = one.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(outcome, countersign::proto::RefreshOutcome::Replayed);
        assert_eq!(again.refresh_token, second.refresh_token);
        let (third, _) = one.refresh(&second.refresh_token).await.unwrap();
        two.assert_active(&third.access_token).await;
        // A reuse at one build is known to both.
        let stolen = two.refresh(&first.refresh_token).await.unwrap_err();
        assert_eq!(reason(&stolen).1, "REFRESH_TOKEN_REUSED");
        for caller in [one, two] {
            eventually("the token is inactive on both", Duration::from_secs(10), || async {
                caller.inactive_reason(&third.access_token).await
            })
            .await;
        }
        let (other_session, ended) = (one.login("ada").await, one.login("ada").await);
        assert_eq!(two.revoke(Target::Token(ended.refresh_token.clone())).await.unwrap(), 1);
        let refused = one.refresh(&ended.refresh_token).await.unwrap_err();
        assert_eq!(reason(&refused).1, "SESSION_REVOKED");
        two.assert_active(&other_session.access_token).await;
    }
    // The other build knows a new signing key before it signs a token.
    deployment.storage.run(&["key", "rotate", "--force"]).succeed();
    let tokens = callers[0].login("ada").await;
    callers[1].assert_active(&tokens.access_token).await;
    // A downgrade: the version before starts on the stores of the newer one.
    drop(after);
    let back = deployment.storage.clone().with_binary(other).serve(&[]);
    Caller::of(&back).assert_active(&tokens.access_token).await;
    Caller::of(&back).refresh(&tokens.refresh_token).await.unwrap();
}
