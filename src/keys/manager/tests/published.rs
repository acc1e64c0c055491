//! No key signs that another JWT library cannot read. The refusal is simulated, because no such key is known.

use super::*;
use crate::keys::published::{check, seam};

#[tokio::test]
async fn a_key_that_another_library_cannot_read_is_not_imported() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    let before = deployment.rows().await;
    seam::refuse(Some(Algorithm::Rs256));
    for activate in [false, true] {
        let refused = replica
            .import(&pem("rsa2048.pkcs1.pem"), activate, &Origin::cli())
            .await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        assert!(error.message.contains("key"), "{error}");
    }
    assert_eq!(deployment.rows().await, before, "nothing was stored");
    seam::refuse(None);
    replica
        .import(&pem("rsa2048.pkcs1.pem"), true, &Origin::cli())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_that_another_library_cannot_read_is_not_created() {
    let deployment = Deployment::new();
    seam::refuse(Some(Algorithm::EdDsa));
    let error = deployment.start_with(config()).await.unwrap_err();
    assert!(error.to_string().contains("the new signing key"), "{error}");
    assert!(deployment.rows().await.signing.is_empty());
    seam::refuse(None);
    deployment.replica().await;
}

#[tokio::test]
async fn a_standby_that_another_library_cannot_read_is_replaced_and_never_signs() {
    let deployment = Deployment::new();
    let (signing, unreadable) = {
        let replica = deployment.replica().await;
        (active(&replica), standby(&replica))
    };
    seam::refuse(Some(Algorithm::EdDsa));
    let es256 = KeysConfig {
        algorithm: Algorithm::Es256,
        ..config()
    };
    let replica = deployment.start_with(es256).await.unwrap();
    assert_eq!(active(&replica), signing, "tokens of the ACTIVE key are in use");
    let next = standby(&replica);
    assert_ne!(next, unreadable);
    let state = replica
        .listed()
        .into_iter()
        .find(|key| key.id == unreadable)
        .unwrap()
        .state;
    assert_eq!(state, KeyState::Revoked);
    assert!(!replica.current().jwks_json().contains(unreadable.as_str()));
    assert!(
        replica
            .activate(&unreadable, Some(&signing), &Origin::cli())
            .await
            .is_err()
    );
    assert_eq!(replica.rotate(true, &Origin::cli()).await.unwrap().id, next);
    seam::refuse(None);
}

#[tokio::test]
async fn every_published_key_is_readable() {
    let deployment = Deployment::new();
    let replica = deployment.replica().await;
    for file in ["rsa2048.pkcs1.pem", "ed25519.pkcs8.pem"] {
        replica.import(&pem(file), false, &Origin::cli()).await.unwrap();
    }
    replica.rotate(true, &Origin::cli()).await.unwrap();
    let ring = replica.current();
    assert_eq!(ring.unsealed().len(), ring.verifying().ids().count());
    for key in ring.unsealed() {
        assert_eq!(check(&key.key, ring.jwks_json()), Ok(()));
    }
}
