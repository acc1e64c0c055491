//! The signing keys of a running Countersign.

use countersign::proto::key_service_client::KeyServiceClient;
use countersign::proto::{Key, KeyState, ListKeysRequest, RevokeKeyRequest, RotateKeyRequest};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::Countersign;

/// A connection to the `KeyService` of one replica.
#[derive(Clone, Debug)]
pub struct Keys(KeyServiceClient<Channel>);

impl Keys {
    /// Connects to this replica.
    pub fn of(server: &Countersign) -> Self {
        let endpoint = Endpoint::from_shared(server.grpc_url()).expect("a URL");
        Self(KeyServiceClient::new(endpoint.connect_lazy()))
    }

    /// All keys, oldest first.
    pub async fn list(&self) -> Result<Vec<Key>, Status> {
        let answer = self.0.clone().list_keys(ListKeysRequest {}).await?;
        Ok(answer.into_inner().keys)
    }

    /// The ids of the keys in this state.
    pub async fn in_state(&self, state: KeyState) -> Vec<String> {
        let keys = self.list().await.expect("ListKeys succeeds");
        let wanted = keys.into_iter().filter(|key| key.state() == state);
        wanted.map(|key| key.key_id).collect()
    }

    /// The id of the active key.
    ///
    /// # Panics
    ///
    /// If there is not exactly one.
    pub async fn active(&self) -> String {
        let [active] = self
            .in_state(KeyState::Active)
            .await
            .try_into()
            .expect("one ACTIVE key");
        active
    }

    /// `RotateKey`. Returns the key that signs now, or will sign.
    pub async fn rotate(&self, force: bool) -> Result<Key, Status> {
        let answer = self.0.clone().rotate_key(RotateKeyRequest { force }).await?;
        Ok(answer.into_inner().key.expect("a rotation without an error has a key"))
    }

    /// `RevokeKey`.
    pub async fn revoke(&self, id: &str) -> Result<Key, Status> {
        let request = RevokeKeyRequest {
            key_id: id.to_owned(),
            reason: "a test".to_owned(),
        };
        let answer = self.0.clone().revoke_key(request).await?;
        Ok(answer
            .into_inner()
            .key
            .expect("a revocation without an error has a key"))
    }
}

/// The header (0) or the claims (1) of a token, without checking the signature.
pub fn part(token: &str, index: usize) -> Value {
    let text = token.split('.').nth(index).expect("a JWT");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

/// The `kid` in the header of a token.
pub fn kid(token: &str) -> String {
    part(token, 0)["kid"].as_str().expect("a `kid`").to_owned()
}

/// The ids in a JSON Web Key Set, in its order.
pub fn published(jwks: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(jwks).expect("a key set is JSON");
    let keys = set["keys"].as_array().expect("a key set has keys");
    let ids = keys.iter().map(|key| key["kid"].as_str().expect("a `kid`").to_owned());
    ids.collect()
}
