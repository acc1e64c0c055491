//! Issuing a client's own token for its secret (RFC 6749 §4.4).

use std::sync::Arc;

use super::IssuedTokens;
use super::access_token::{AccessTokenInput, AccessTokenSigner};
use super::audit::AuditWriter;
use super::client_limits::ClientLimits;
use super::lost_epochs::check_epochs;
use super::permissions::{check_requested, may_use};
use crate::attempts::{AttemptLog, Failure, Named, Subject};
use crate::clock::UnixMillis;
use crate::config::Tokens as TokenConfig;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::{AuditType, Caller, ClientId, Error, ErrorKind, Grant, Result, Source, TokenEpochs};
use crate::revocation::Feed;
use crate::secret::{SecretText, same, sha256};
use crate::store::{ClientStore, MachineLogin};
use crate::throttle::Throttle;

/// The longest client secret that is checked, in bytes.
const MAX_SECRET: usize = 256;

/// A client's login with its secret.
#[derive(Debug)]
pub struct ClientSecretRequest {
    /// The client; empty means the default one.
    pub client_id: String,
    /// Its secret.
    pub secret: SecretText,
    /// The requested audiences; empty means the configured default.
    pub audience: Vec<String>,
    /// The requested scopes; empty means the client's.
    pub scope: Vec<String>,
}

/// Issues the own tokens of clients.
pub struct ClientSecretIssuer {
    /// Clients with their secrets.
    pub clients: Arc<dyn ClientStore>,
    /// Revocations that the store may have lost.
    pub feed: Arc<Feed>,
    /// Counts wrong secrets.
    pub throttle: Arc<Throttle>,
    /// Signs the token.
    pub signer: Arc<AccessTokenSigner>,
    /// The audit trail.
    pub audit: AuditWriter,
    /// The audit rows of frequent attempts.
    pub attempts: Arc<AttemptLog>,
    /// The configured lifetimes and audiences.
    pub config: Arc<TokenConfig>,
}

impl std::fmt::Debug for ClientSecretIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientSecretIssuer")
    }
}

impl ClientSecretIssuer {
    /// Issues a client's own token. An unknown client and a wrong secret get the same answer. No limit refuses a right
    /// secret, whatever other callers at the same source do.
    pub async fn issue(&self, caller: &Caller, request: ClientSecretRequest) -> Result<IssuedTokens> {
        let client_id = ClientId::parse_or_default(&request.client_id, "client_id")?;
        if request.secret.is_empty() || request.secret.expose().len() > MAX_SECRET {
            return Err(Error::invalid("client_secret.secret", "must be 1-256 bytes"));
        }
        let scope = parse_scopes(&request.scope, "scope")?;
        let audience = parse_audiences(&request.audience, "audience")?;
        self.signer.check_skew()?;
        let MachineLogin {
            client,
            secret_hashes,
            epochs,
        } = self.clients.machine_login(&client_id).await?;
        let presented = sha256(request.secret.expose().as_bytes());
        // Every hash is compared, so that the time does not tell which of two secrets it was.
        let matches = secret_hashes
            .iter()
            .fold(false, |matches, hash| matches | same(hash, &presented));
        let exists = client.is_some();
        let Some(client) = client.filter(|_| matches) else {
            let source = Source::of_peer(&caller.origin.ip_address);
            let refusal = self.throttle.wrong_secret(source, ErrorKind::InvalidCredentials).await;
            let name = Named::of(client_id.as_str(), exists);
            self.attempts.record(&Failure {
                kind: if refusal.kind == ErrorKind::Throttled {
                    AuditType::Throttled
                } else {
                    AuditType::TokenIssueFailed
                },
                grant: Some(Grant::ClientSecret),
                subject: Subject::Other(name),
                client: Some(name),
                origin: caller.origin.clone(),
            });
            return Err(refusal);
        };
        let read_again = async { Ok::<_, Error>(self.clients.machine_login(&client_id).await?.epochs) };
        check_epochs(&self.feed, (None, &client.id), epochs, read_again).await?;
        may_use(&client, Grant::ClientSecret)?;
        let scope = if scope.is_empty() {
            client.default_scopes()
        } else {
            scope
        };
        let allowed = Allowed::scopes_of_machine(&client.scopes);
        let (scope, audience) = check_requested(&client, &self.config, &allowed, scope, audience)?;
        let access = self
            .signer
            .sign(AccessTokenInput {
                sub: client.id.to_string(),
                client: client.id.clone(),
                scope,
                audience,
                epochs: TokenEpochs {
                    epochs,
                    client_id: client.id.clone(),
                },
                person: None,
                act: None,
                root: None,
                ttl: ClientLimits::of(&client, &self.config).access_ttl,
                expires_at_most: UnixMillis(i64::MAX),
            })
            .await?;
        let event = self
            .audit
            .event(AuditType::TokenIssued, &client_id, caller)
            .with_client(&client_id)
            .with_detail("grant", Grant::ClientSecret.as_str());
        self.attempts.record_token(AuditType::TokenIssued, event).await?;
        Ok(IssuedTokens { access, refresh: None })
    }
}
