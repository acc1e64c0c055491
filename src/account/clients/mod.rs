//! The rules of clients.

mod draft;

use std::sync::Arc;
use std::time::Duration;

pub use draft::ClientDraft;

use super::secrets::{self, CLIENT_SECRET_PREFIX};
use super::{Listing, Principal, Trail, paging};
use crate::clock::{Clock, UnixMillis};
use crate::model::grant::OWN_PREFIX;
use crate::model::{AuditEvent, AuditType, Client, ClientId, Error, ErrorKind, Grant, Result, Revocation};
use crate::revocation::RevocationPublisher;
use crate::secret::{Entropy, SecretText};
use crate::store::ClientStore;

/// The scope that managing clients needs.
const SCOPE: &str = "countersign:clients";

/// How long an old secret stays good where a rotation does not say.
const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
const MAX_OVERLAP: Duration = Duration::from_hours(24 * 30);

/// What a rotation of a client's secret answers.
#[derive(Debug)]
pub struct RotatedSecret {
    /// Shown once.
    pub secret: SecretText,
    /// When the old one ends.
    pub old_expires: UnixMillis,
}

/// Creating, reading, changing and deleting clients.
pub struct Clients {
    /// Where they are kept.
    pub store: Arc<dyn ClientStore>,
    /// Where what was done is written down.
    pub trail: Trail,
    /// What follows a revocation.
    pub spread: Arc<RevocationPublisher>,
    /// For `create_time`.
    pub clock: Arc<dyn Clock>,
    /// For secrets.
    pub entropy: Arc<dyn Entropy>,
}

impl Clients {
    /// Makes a client. The secret is there only if one of its grants needs one.
    pub async fn create(&self, principal: &Principal, draft: &ClientDraft) -> Result<(Client, Option<SecretText>)> {
        principal.require(SCOPE)?;
        let client = draft.check(self.clock.now())?;
        may_grant(principal, &client.scopes)?;
        let secret =
            needs_secret(&client.grants).then(|| secrets::generate(CLIENT_SECRET_PREFIX, self.entropy.as_ref()));
        let audit = self
            .event(principal, AuditType::ClientCreated, &client.id)
            .with_detail("grants", names(&client.grants))
            .with_detail("scopes", client.scopes.clone());
        let hash = secret.as_ref().map(|(_, hash)| *hash);
        self.store.create_client(&client, hash, &audit).await?;
        Ok((client, secret.map(|(text, _)| text)))
    }

    /// One client.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<Client> {
        principal.require(SCOPE)?;
        let id = ClientId::parse(id, "client_id")?;
        let client = self.store.client(&id).await?;
        client.ok_or_else(|| ErrorKind::ClientNotFound.into())
    }

    /// Clients, by id.
    pub async fn list(&self, principal: &Principal, page_size: i32, page_token: &str) -> Result<Listing<Client>> {
        principal.require(SCOPE)?;
        let limit = paging::size(page_size)?;
        let query = paging::Query::new("clients", &[]);
        let after: Option<ClientId> = query.key(page_token)?;
        let page = self.store.list_clients(after.as_ref(), limit).await?;
        Ok(Listing::of(page, &query))
    }

    /// Changes the fields that `mask` names; with `expected`, only if the client's `updated` is still that.
    pub async fn update(
        &self,
        principal: &Principal,
        draft: &ClientDraft,
        mask: &[String],
        expected: Option<UnixMillis>,
    ) -> Result<Client> {
        principal.require(SCOPE)?;
        let id = ClientId::parse(&draft.client_id, "client.client_id")?;
        let change = draft.change(mask)?;
        if let Some(scopes) = &change.scopes {
            may_grant(principal, scopes)?;
        }
        let mut audit = self
            .event(principal, AuditType::ClientUpdated, &id)
            .with_detail("fields", mask.to_vec());
        if let Some(scopes) = &change.scopes {
            audit = audit.with_detail("scopes", scopes.clone());
        }
        if let Some(disabled) = change.disabled {
            audit = audit.with_detail("disabled", disabled);
        }
        let callable = principal.callable();
        let (client, revocation) = self
            .store
            .update_client(&id, &change, expected, callable.as_deref(), &audit)
            .await?;
        self.end(revocation.as_ref()).await;
        Ok(client)
    }

    /// Deletes a client and ends everything at it.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<()> {
        principal.require(SCOPE)?;
        let id = ClientId::parse(id, "client_id")?;
        let audit = self.event(principal, AuditType::ClientDeleted, &id);
        let callable = principal.callable();
        let revocation = self.store.delete_client(&id, callable.as_deref(), &audit).await?;
        self.end(Some(&revocation)).await;
        Ok(())
    }

    /// Gives a client a new secret. The old one is good for `overlap` more (24 h where it is not said); with none,
    /// everything at the client that is older ends now.
    pub async fn rotate_secret(
        &self,
        principal: &Principal,
        id: &str,
        overlap: Option<Duration>,
    ) -> Result<RotatedSecret> {
        principal.require(SCOPE)?;
        let id = ClientId::parse(id, "client_id")?;
        let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
        if overlap > MAX_OVERLAP {
            return Err(Error::invalid("overlap", "must be at most 30 days"));
        }
        let (secret, hash) = secrets::generate(CLIENT_SECRET_PREFIX, self.entropy.as_ref());
        let audit = self
            .event(principal, AuditType::ClientSecretRotated, &id)
            .with_detail("overlap_seconds", overlap.as_secs());
        let callable = principal.callable();
        let (old_expires, revocation) = self
            .store
            .rotate_client_secret(&id, hash, overlap, callable.as_deref(), &audit)
            .await?;
        self.end(revocation.as_ref()).await;
        Ok(RotatedSecret { secret, old_expires })
    }

    fn event(&self, principal: &Principal, kind: AuditType, id: &ClientId) -> AuditEvent {
        self.trail.event(kind, id, principal.origin()).with_client(id)
    }

    /// Ends at once, everywhere, what a recorded revocation kills.
    async fn end(&self, revocation: Option<&Revocation>) {
        if let Some(revocation) = revocation {
            self.spread.spread(revocation).await;
        }
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

/// Nobody grants a right on Countersign that they lack themselves.
fn may_grant(principal: &Principal, scopes: &[String]) -> Result<()> {
    let lacking = |scope: &String| scope.starts_with(OWN_PREFIX) && !principal.holds(scope);
    if scopes.iter().any(lacking) {
        return Err(Error::at(
            ErrorKind::CallerNotAllowed,
            "client.scopes",
            "holds a countersign scope that the caller lacks",
        ));
    }
    Ok(())
}

fn needs_secret(grants: &[Grant]) -> bool {
    grants.iter().any(|grant| match grant {
        Grant::ClientSecret | Grant::Exchange => true,
        Grant::Password => false,
    })
}

fn names(grants: &[Grant]) -> Vec<&'static str> {
    grants.iter().map(|grant| grant.as_str()).collect()
}
