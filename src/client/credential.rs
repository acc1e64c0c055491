//! How a client proves to Countersign who it is.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::renewal::{Life, RenewalState, Turns};
use crate::clock::Clock;
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
    channel: Channel,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    held: Mutex<Option<Held>>,
    turns: Turns,
}

#[derive(Clone, Debug)]
struct Held {
    token: SecretText,
    life: Life,
}

impl Bearer {
    pub(super) fn new(credential: Credential, channel: Channel, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        Self {
            credential,
            channel,
            clock,
            deadline,
            held: Mutex::default(),
            turns: Turns::default(),
        }
    }

    /// The token to send now; none if there is nothing to prove. It is renewed ahead of its expiry while callers go on
    /// with the old one; where there is none, many callers wait for one Issue.
    pub(super) async fn token(self: &Arc<Self>) -> Result<Option<SecretText>, Status> {
        match &self.credential {
            Credential::None => Ok(None),
            Credential::Token(token) => Ok(Some(token.clone())),
            Credential::Secret {
                client_id,
                secret,
                scope,
            } => self.machine_token(client_id, secret, scope).await.map(Some),
        }
    }

    async fn machine_token(
        self: &Arc<Self>,
        client_id: &str,
        secret: &SecretText,
        scope: &[String],
    ) -> Result<SecretText, Status> {
        if let Some((token, renewal_state)) = self.current() {
            if renewal_state == RenewalState::Due
                && let Some(turn) = self.turns.free(self.clock.now())
            {
                let bearer = self.clone();
                tokio::spawn(async move {
                    let _turn = turn;
                    if bearer.renew_own().await.is_err() {
                        bearer.turns.failed(bearer.clock.now());
                    }
                });
            }
            return Ok(token);
        }
        let _turn = self.turns.wait().await;
        if let Some((token, _)) = self.current() {
            return Ok(token);
        }
        self.renew(client_id, secret, scope).await
    }

    /// The token that is held, unless it is over.
    fn current(&self) -> Option<(SecretText, RenewalState)> {
        let held = self.held.lock();
        let held = held.as_ref()?;
        let renewal_state = held.life.renewal_state(self.clock.now());
        (renewal_state != RenewalState::Over).then(|| (held.token.clone(), renewal_state))
    }

    async fn renew_own(&self) -> Result<(), Status> {
        if let Credential::Secret {
            client_id,
            secret,
            scope,
        } = &self.credential
        {
            self.renew(client_id, secret, scope).await?;
        }
        Ok(())
    }

    async fn renew(&self, client_id: &str, secret: &SecretText, scope: &[String]) -> Result<SecretText, Status> {
        let mut request = Request::new(IssueRequest {
            client_id: client_id.to_owned(),
            credential: Some(issue_request::Credential::ClientSecret(ClientSecretCredential {
                secret: secret.expose().to_owned(),
            })),
            scope: scope.to_vec(),
            // A token without scopes must still name us.
            audience: if scope.is_empty() {
                vec!["countersign".to_owned()]
            } else {
                Vec::new()
            },
            context: None,
        });
        request.set_timeout(self.deadline);
        let answer = TokenServiceClient::new(self.channel.clone()).issue(request).await?;
        let tokens = answer.into_inner().tokens.unwrap_or_default();
        let life = Life::of(&tokens);
        let token = SecretText::new(tokens.access_token);
        *self.held.lock() = Some(Held {
            token: token.clone(),
            life,
        });
        Ok(token)
    }

    /// Forgets a token that the service no longer takes.
    pub(super) fn forget(&self, token: &SecretText) {
        let mut held = self.held.lock();
        if held.as_ref().is_some_and(|held| held.token == *token) {
            *held = None;
        }
    }
}
