//! Issue with a client's secret: a machine's own token (RFC 6749 §4.4).

use std::time::Duration;

use super::Tokens;
use super::allowed::may_use;
use super::mint::{AccessTokenInput, IssuedTokens};
use crate::clock::UnixMillis;
use crate::model::audit::Outcome;
use crate::model::grant::{Allowed, parse_audiences, parse_scopes};
use crate::model::{AuditType, Caller, ClientId, Error, ErrorKind, Grant, Result, TokenEpochs};
use crate::secret::{SecretText, same, sha256};
use crate::store::MachineLogin;

/// The longest client secret that is looked at, in bytes.
const MAX_SECRET: usize = 256;

/// A client's own login.
#[derive(Debug)]
pub struct MachineRequest {
    /// Which; empty means the default one.
    pub client_id: String,
    /// Its secret.
    pub secret: SecretText,
    /// Asked for; empty means the configuration's.
    pub audience: Vec<String>,
    /// Asked for; empty means the client's.
    pub scope: Vec<String>,
    /// How long the caller waits: a moment of the clock's monotonic time.
    pub deadline: Duration,
}

impl Tokens {
    /// Issues a client's own token. Unknown client and wrong secret are one answer.
    pub async fn issue_with_secret(&self, caller: &Caller, request: MachineRequest) -> Result<IssuedTokens> {
        let client_id = ClientId::parse_or_default(&request.client_id, "client_id")?;
        if request.secret.is_empty() || request.secret.expose().len() > MAX_SECRET {
            return Err(Error::invalid("client_secret.secret", "must be 1-256 bytes"));
        }
        let scope = parse_scopes(&request.scope, "scope")?;
        let audience = parse_audiences(&request.audience, "audience")?;
        self.check_skew()?;
        let attempt = self.throttle.client_login(&caller.origin.ip_address);
        let reservation = self.throttle.reserve(&attempt, request.deadline).await?;
        let login = match self.durable.machine_login(&client_id).await {
            Ok(login) => login,
            Err(error) => {
                reservation.cancel().await;
                return Err(error);
            }
        };
        let MachineLogin {
            client,
            secret_hashes,
            epochs,
        } = login;
        let presented = sha256(request.secret.expose().as_bytes());
        // Every hash is compared: which of two secrets it was is nobody's business.
        let known = secret_hashes
            .iter()
            .fold(false, |known, hash| known | same(hash, &presented));
        let event = self
            .event(AuditType::TokenIssued, &client_id, caller)
            .with_client(&client_id);
        let event = event.with_detail("grant", Grant::ClientSecret.as_str());
        let Some(client) = client.filter(|_| known) else {
            reservation.fail().await;
            let mut event = event.with_outcome(Outcome::Denied);
            AuditType::TokenIssueFailed.as_str().clone_into(&mut event.kind);
            self.audit_best_effort(&event).await;
            return Err(ErrorKind::InvalidCredentials.into());
        };
        reservation.succeed().await;
        may_use(&client, Grant::ClientSecret)?;
        let scope = if scope.is_empty() {
            client.default_scopes()
        } else {
            scope
        };
        let allowed = Allowed::scopes_of_machine(&client.scopes);
        let (scope, audience) = self.granted(&client, &allowed, scope, audience)?;
        let access = self
            .mint(AccessTokenInput {
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
                ttl: self.config.access_ttl(&client),
                ceiling: UnixMillis(i64::MAX),
            })
            .await?;
        self.durable.append_audit(&event).await?;
        Ok(IssuedTokens { access, refresh: None })
    }
}
