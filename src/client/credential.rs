//! How a client proves to Countersign who it is.

use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::clock::{Clock, UnixMillis};
use crate::proto::token_service_client::TokenServiceClient;
use crate::proto::{ClientSecretCredential, IssueRequest, issue_request};
use crate::secret::SecretText;

/// How a client proves to Countersign who it is.
#[derive(Clone, Default)]
pub enum Credential {
    /// Not at all: it may do what `server.anonymous_scopes` allows.
    #[default]
    None,
    /// By a token that somebody else keeps fresh.
    Token(SecretText),
    /// By its own secret: it gets itself machine tokens, ahead of expiry.
    Secret {
        /// Its id.
        client_id: String,
        /// Its secret.
        secret: SecretText,
        /// The `countersign:*` scopes it needs; empty asks for none.
        scope: Vec<String>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Token(_) => f.write_str("Token([redacted])"),
            Self::Secret { client_id, .. } => f
                .debug_struct("Secret")
                .field("client_id", client_id)
                .finish_non_exhaustive(),
        }
    }
}

/// A credential with the token that it got.
#[derive(Debug)]
pub(super) struct Bearer {
    credential: Credential,
    held: Mutex<Option<Held>>,
}

#[derive(Clone, Debug)]
struct Held {
    token: SecretText,
    refresh_after: UnixMillis,
    expires: UnixMillis,
}

impl Bearer {
    pub(super) fn new(credential: Credential) -> Self {
        Self {
            credential,
            held: Mutex::new(None),
        }
    }

    /// The token to send now; none if there is nothing to prove. Many callers wait for one Issue.
    pub(super) async fn token(
        &self,
        channel: &Channel,
        clock: &dyn Clock,
        deadline: Duration,
    ) -> Result<Option<SecretText>, Status> {
        let (client_id, secret, scope) = match &self.credential {
            Credential::None => return Ok(None),
            Credential::Token(token) => return Ok(Some(token.clone())),
            Credential::Secret {
                client_id,
                secret,
                scope,
            } => (client_id, secret, scope),
        };
        let mut held = self.held.lock().await;
        let now = clock.now();
        if let Some(held) = held.as_ref().filter(|held| now < held.refresh_after) {
            return Ok(Some(held.token.clone()));
        }
        let mut request = Request::new(IssueRequest {
            client_id: client_id.clone(),
            credential: Some(issue_request::Credential::ClientSecret(ClientSecretCredential {
                secret: secret.expose().to_owned(),
            })),
            scope: scope.clone(),
            // A token without scopes must still name us.
            audience: if scope.is_empty() {
                vec!["countersign".to_owned()]
            } else {
                Vec::new()
            },
            context: None,
        });
        request.set_timeout(deadline);
        let answer = TokenServiceClient::new(channel.clone()).issue(request).await;
        let tokens = match (answer, held.as_ref()) {
            (Ok(answer), _) => answer.into_inner().tokens.unwrap_or_default(),
            // The old one is still good: an outage while it is renewed ahead of time is not one for the caller.
            (Err(_), Some(old)) if now < old.expires => return Ok(Some(old.token.clone())),
            (Err(status), _) => return Err(status),
        };
        let millis = |time: Option<prost_types::Timestamp>| {
            time.map_or(now, |t| {
                UnixMillis(t.seconds.saturating_mul(1000) + i64::from(t.nanos / 1_000_000))
            })
        };
        let fresh = Held {
            refresh_after: millis(tokens.refresh_after),
            expires: millis(tokens.access_expires_at),
            token: SecretText::new(tokens.access_token),
        };
        let token = fresh.token.clone();
        *held = Some(fresh);
        Ok(Some(token))
    }

    /// Forgets a token that the service no longer takes.
    pub(super) async fn forget(&self, token: &SecretText) {
        let mut held = self.held.lock().await;
        if held.as_ref().is_some_and(|held| held.token == *token) {
            *held = None;
        }
    }
}
