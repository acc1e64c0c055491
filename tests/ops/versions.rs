//! FAULTS row 46, as far as one build can show it: what another version left is recognised, and what cannot be is
//! refused. Two builds on one store are run by `tests/mixed-versions`, which builds the commit before.

use std::time::Duration;

use countersign::proto::revoke_request::Target;

use crate::support::caller::{reason, refresh_bytes, refresh_text};
use crate::support::redis::try_command;
use crate::support::{Caller, Deployment, Shape, eventually};

#[tokio::test]
async fn a_refresh_token_of_another_version_is_malformed_and_not_reuse() {
    let deployment = Deployment::fresh(Shape::Embedded).await;
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
    let deployment = Deployment::fresh(Shape::Clustered).await;
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
    // Another replica, newer, can read it: come again, and do not throw the token away.
    assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused:?}");
    let lower = raise.replace("string.char(99)", "string.char(1)");
    try_command(keys.url(), &["EVAL", &lower, "1", &key]).unwrap();
    eventually("it is read again", Duration::from_secs(5), || async {
        caller.refresh(&tokens.refresh_token).await.ok()
    })
    .await;
}

/// Scripts are called by the digest of their text: two versions side by side never run each other's.
#[tokio::test]
async fn scripts_are_named_by_what_they_say() {
    let deployment = Deployment::fresh(Shape::Clustered).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    // A Redis that has forgotten every script, as after a restart or beside another version, learns them again.
    let keys = deployment.keys.as_ref().unwrap();
    try_command(keys.url(), &["SCRIPT", "FLUSH"]).unwrap();
    caller.refresh(&tokens.refresh_token).await.unwrap();
}

/// What one version begins the other goes on with: logins, refreshes, retries, reuse, revocations, keys. Which version
/// makes the stores is the other one: it is what an upgrade finds.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs another build: tests/mixed-versions"]
async fn two_builds_on_one_store_go_on_with_each_others_sessions() {
    let other = std::env::var_os("COUNTERSIGN_TEST_OTHER_BINARY").expect("tests/mixed-versions sets it");
    let other = other.to_str().unwrap();
    let deployment = Deployment::fresh(Shape::Clustered).await;
    let before = deployment.storage.clone().with_binary(other).serve(&[]);
    deployment.add_user("ada", &[]);
    let after = deployment.serve();
    let sides = [Caller::of(&before), Caller::of(&after)];
    for (one, two) in [(&sides[0], &sides[1]), (&sides[1], &sides[0])] {
        let first = one.login("ada").await;
        two.assert_active(&first.access_token).await;
        let (second, _) = two.refresh(&first.refresh_token).await.unwrap();
        // The reply was lost, and asked for again elsewhere: the same bytes.
        let (again, outcome) = one.refresh(&first.refresh_token).await.unwrap();
        assert_eq!(outcome, countersign::proto::RefreshOutcome::Replayed);
        assert_eq!(again.refresh_token, second.refresh_token);
        let (third, _) = one.refresh(&second.refresh_token).await.unwrap();
        two.assert_active(&third.access_token).await;
        // A thief at one of them, noticed by both.
        let stolen = two.refresh(&first.refresh_token).await.unwrap_err();
        assert_eq!(reason(&stolen).1, "REFRESH_TOKEN_REUSED");
        for side in [one, two] {
            eventually("it is dead on both", Duration::from_secs(10), || async {
                side.inactive_reason(&third.access_token).await
            })
            .await;
        }
        let (other_session, ended) = (one.login("ada").await, one.login("ada").await);
        assert_eq!(two.revoke(Target::Token(ended.refresh_token.clone())).await.unwrap(), 1);
        let refused = one.refresh(&ended.refresh_token).await.unwrap_err();
        assert_eq!(reason(&refused).1, "SESSION_REVOKED");
        two.assert_active(&other_session.access_token).await;
    }
    // A new signing key of one is known to the other before anything is signed with it.
    deployment.storage.run(&["key", "rotate", "--force"]).succeed();
    let tokens = sides[0].login("ada").await;
    sides[1].assert_active(&tokens.access_token).await;
    // And back again: the version before starts on what the newer one has used.
    drop(after);
    let back = deployment.storage.clone().with_binary(other).serve(&[]);
    Caller::of(&back).assert_active(&tokens.access_token).await;
    Caller::of(&back).refresh(&tokens.refresh_token).await.unwrap();
}
