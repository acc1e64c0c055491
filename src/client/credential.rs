//! Authentication of a client to Countersign.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::renewal::{RenewalLock, RenewalState, TokenLifetime};
use crate::clock::Clock;
use crate::proto::token_service_client::TokenServiceClient;
use crate::proto::{ClientSecretCredential, IssueRequest, issue_request};
use crate::secret::SecretText;

/// How a client authenticates to Countersign.
#[derive(Clone, Default)]
pub enum Credential {
    /// No authentication: the client may do what `server.anonymous_scopes` allows.
    #[default]
    None,
    /// An access token that the application keeps fresh.
    Token(SecretText),
    /// A client secret. The client issues machine tokens for itself and renews them before they expire.
    Secret {
        /// The id of the client.
        client_id: String,
        /// The secret of the client.
        secret: SecretText,
        /// The `countersign:*` scopes that the client needs; empty requests none.
        scope: Vec<String>,
    },
    /// A client secret in a file. The file is read each time that a machine token is issued, so that a new secret needs no
    /// restart.
    SecretFile {
        /// The id of the client.
        client_id: String,
        /// The file with the secret of the client; blanks and line ends at its end are not part of it.
        path: PathBuf,
        /// The `countersign:*` scopes that the client needs; empty requests none.
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
            Self::SecretFile { client_id, path, .. } => f
                .debug_struct("SecretFile")
                .field("client_id", client_id)
                .field("path", path)
                .finish_non_exhaustive(),
        }
    }
}

/// A credential with the access token that it obtained.
#[derive(Debug)]
pub(super) struct Bearer {
    credential: Credential,
    channel: Channel,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    cached: Mutex<Option<CachedToken>>,
    /// The secret that was read last from a file.
    last_secret: Mutex<Option<SecretText>>,
    renewal: RenewalLock,
}

#[derive(Clone, Debug)]
struct CachedToken {
    token: SecretText,
    lifetime: TokenLifetime,
}

impl Bearer {
    pub(super) fn new(credential: Credential, channel: Channel, clock: Arc<dyn Clock>, deadline: Duration) -> Self {
        Self {
            credential,
            channel,
            clock,
            deadline,
            cached: Mutex::default(),
            last_secret: Mutex::default(),
            renewal: RenewalLock::default(),
        }
    }

    /// The access token to send now; `None` without a credential. A machine token is renewed before it expires, while callers
    /// use the old one. If there is no valid token, all callers wait for one call of `Issue`.
    pub(super) async fn token(self: &Arc<Self>) -> Result<Option<SecretText>, Status> {
        match &self.credential {
            Credential::None => Ok(None),
            Credential::Token(token) => Ok(Some(token.clone())),
            Credential::Secret { .. } | Credential::SecretFile { .. } => self.machine_token().await.map(Some),
        }
    }

    async fn machine_token(self: &Arc<Self>) -> Result<SecretText, Status> {
        if let Some((token, renewal_state)) = self.current() {
            if renewal_state == RenewalState::Due
                && let Some(permit) = self.renewal.try_acquire(self.clock.now())
            {
                let bearer = self.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    if bearer.renew().await.is_err() {
                        bearer.renewal.record_failure(bearer.clock.now());
                    }
                });
            }
            return Ok(token);
        }
        let _permit = self.renewal.acquire().await;
        if let Some((token, _)) = self.current() {
            return Ok(token);
        }
        self.renew().await
    }

    /// The cached token, unless it has expired.
    fn current(&self) -> Option<(SecretText, RenewalState)> {
        let cached = self.cached.lock();
        let cached = cached.as_ref()?;
        let renewal_state = cached.lifetime.renewal_state(self.clock.now());
        (renewal_state != RenewalState::Expired).then(|| (cached.token.clone(), renewal_state))
    }

    /// Issues a machine token.
    async fn renew(&self) -> Result<SecretText, Status> {
        let (client_id, scope) = match &self.credential {
            Credential::Secret { client_id, scope, .. } | Credential::SecretFile { client_id, scope, .. } => {
                (client_id, scope)
            }
            Credential::None | Credential::Token(_) => {
                return Err(Status::internal("this credential issues no tokens"));
            }
        };
        let secret = self.secret().await?;
        let mut request = Request::new(IssueRequest {
            client_id: client_id.clone(),
            credential: Some(issue_request::Credential::ClientSecret(ClientSecretCredential {
                secret: secret.expose().to_owned(),
            })),
            scope: scope.clone(),
            // A token without scopes must still name an audience.
            audience: if scope.is_empty() {
                vec!["countersign".to_owned()]
            } else {
                Vec::new()
            },
            context: None,
        });
        request.set_timeout(self.deadline);
        let response = TokenServiceClient::new(self.channel.clone()).issue(request).await?;
        let tokens = response.into_inner().tokens.unwrap_or_default();
        let lifetime = TokenLifetime::of(&tokens);
        let token = SecretText::new(tokens.access_token);
        *self.cached.lock() = Some(CachedToken {
            token: token.clone(),
            lifetime,
        });
        Ok(token)
    }

    /// The secret of the client, as its file has it now. While the file cannot be read, the one before is used.
    async fn secret(&self) -> Result<SecretText, Status> {
        let path = match &self.credential {
            Credential::Secret { secret, .. } => return Ok(secret.clone()),
            Credential::SecretFile { path, .. } => path.clone(),
            Credential::None | Credential::Token(_) => return Ok(SecretText::default()),
        };
        let from = path.clone();
        // A file on a network volume can be slow.
        let read = tokio::task::spawn_blocking(move || read_secret(&from)).await;
        let read = read.unwrap_or_else(|error| Err(error.to_string()));
        let mut last = self.last_secret.lock();
        match (read, &*last) {
            (Ok(secret), _) => {
                *last = Some(secret.clone());
                Ok(secret)
            }
            (Err(error), Some(before)) => {
                let path = path.display();
                tracing::warn!(error, %path, "the file of the client secret cannot be read; the secret before is used");
                Ok(before.clone())
            }
            // Retried like a service that cannot be reached: a mounted secret may appear later.
            (Err(error), None) => Err(Status::unavailable(format!(
                "cannot read the client secret from {}: {error}",
                path.display()
            ))),
        }
    }

    /// Drops a cached token that the service refused.
    pub(super) fn forget(&self, token: &SecretText) {
        let mut cached = self.cached.lock();
        if cached.as_ref().is_some_and(|cached| cached.token == *token) {
            *cached = None;
        }
    }
}

fn read_secret(path: &Path) -> Result<SecretText, String> {
    let secret = SecretText::read_file(path).map_err(|error| error.to_string())?;
    if secret.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(secret)
}
