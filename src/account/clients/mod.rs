//! Managing clients.

mod draft;

use std::sync::Arc;
use std::time::Duration;

pub use draft::ClientDraft;

use super::secrets::{self, CLIENT_SECRET_PREFIX};
use super::{AuditTrail, ListPage, Principal, paging};
use crate::clock::{Clock, UnixMillis};
use crate::model::scope::has_caller_prefix;
use crate::model::{AuditEvent, AuditType, CallerScope, Client, ClientId, Error, ErrorKind, Grant, Result, Revocation};
use crate::revocation::RevocationPublisher;
use crate::secret::{Entropy, SecretText};
use crate::store::ClientStore;

/// How long the old secret stays valid if the request does not say.
const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);
const MAX_OVERLAP: Duration = Duration::from_hours(24 * 30);

/// A client's new secret.
#[derive(Debug)]
pub struct RotatedSecret {
    /// The new secret; it is not stored and cannot be shown again.
    pub secret: SecretText,
    /// When the old secret stops working.
    pub old_expires: UnixMillis,
}

/// Creating, reading, changing and deleting clients.
pub struct Clients {
    /// The store of clients.
    pub store: Arc<dyn ClientStore>,
    /// Makes the audit events.
    pub trail: AuditTrail,
    /// Tells every replica about a recorded revocation.
    pub publisher: Arc<RevocationPublisher>,
    /// The clock for `create_time`.
    pub clock: Arc<dyn Clock>,
    /// Randomness for client secrets.
    pub entropy: Arc<dyn Entropy>,
}

impl Clients {
    /// Creates a client. Returns a secret only if one of its grants needs one.
    pub async fn create(&self, principal: &Principal, draft: &ClientDraft) -> Result<(Client, Option<SecretText>)> {
        principal.require(CallerScope::Clients)?;
        let client = draft.check(self.clock.now())?;
        check_may_grant(principal, &client.scopes)?;
        let secret =
            needs_secret(&client.grants).then(|| secrets::generate(CLIENT_SECRET_PREFIX, self.entropy.as_ref()));
        let audit = self
            .event(principal, AuditType::ClientCreated, &client.id)
            .with_detail("grants", grant_names(&client.grants))
            .with_detail("scopes", client.scopes.clone());
        let hash = secret.as_ref().map(|(_, hash)| *hash);
        self.store.create_client(&client, hash, &audit).await?;
        Ok((client, secret.map(|(text, _)| text)))
    }

    /// Returns one client.
    pub async fn get(&self, principal: &Principal, id: &str) -> Result<Client> {
        principal.require(CallerScope::Clients)?;
        let id = ClientId::parse(id, "client_id")?;
        let client = self.store.client(&id).await?;
        client.ok_or_else(|| ErrorKind::ClientNotFound.into())
    }

    /// Lists clients, sorted by id.
    pub async fn list(&self, principal: &Principal, page_size: i32, page_token: &str) -> Result<ListPage<Client>> {
        principal.require(CallerScope::Clients)?;
        let limit = paging::size(page_size)?;
        let query = paging::ListQuery::new("clients", &[]);
        let after: Option<ClientId> = query.page_key(page_token)?;
        let page = self.store.list_clients(after.as_ref(), limit).await?;
        Ok(ListPage::of(page, &query))
    }

    /// Changes the fields that `mask` names. With `expected`, only if the client's `updated` still has that value.
    pub async fn update(
        &self,
        principal: &Principal,
        draft: &ClientDraft,
        mask: &[String],
        expected: Option<UnixMillis>,
    ) -> Result<Client> {
        principal.require(CallerScope::Clients)?;
        let id = ClientId::parse(&draft.client_id, "client.client_id")?;
        let change = draft.change(mask)?;
        if let Some(scopes) = &change.scopes {
            check_may_grant(principal, scopes)?;
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
        let caller_scopes = principal.caller_scopes();
        let (client, revocation) = self
            .store
            .update_client(&id, &change, expected, caller_scopes.as_deref(), &audit)
            .await?;
        self.publish(revocation.as_ref()).await;
        Ok(client)
    }

    /// Deletes a client and revokes its sessions and tokens.
    pub async fn delete(&self, principal: &Principal, id: &str) -> Result<()> {
        principal.require(CallerScope::Clients)?;
        let id = ClientId::parse(id, "client_id")?;
        let audit = self.event(principal, AuditType::ClientDeleted, &id);
        let caller_scopes = principal.caller_scopes();
        let revocation = self.store.delete_client(&id, caller_scopes.as_deref(), &audit).await?;
        self.publish(Some(&revocation)).await;
        Ok(())
    }

    /// Gives a client a new secret. The old secret stays valid for `overlap` (default 24 h, at most 30 days). With an
    /// overlap of zero, the client's older sessions and tokens are revoked at once.
    pub async fn rotate_secret(
        &self,
        principal: &Principal,
        id: &str,
        overlap: Option<Duration>,
    ) -> Result<RotatedSecret> {
        principal.require(CallerScope::Clients)?;
        let id = ClientId::parse(id, "client_id")?;
        let overlap = overlap.unwrap_or(DEFAULT_OVERLAP);
        if overlap > MAX_OVERLAP {
            return Err(Error::invalid("overlap", "must be at most 30 days"));
        }
        let (secret, hash) = secrets::generate(CLIENT_SECRET_PREFIX, self.entropy.as_ref());
        let audit = self
            .event(principal, AuditType::ClientSecretRotated, &id)
            .with_detail("overlap_seconds", overlap.as_secs());
        let caller_scopes = principal.caller_scopes();
        let (old_expires, revocation) = self
            .store
            .rotate_client_secret(&id, hash, overlap, caller_scopes.as_deref(), &audit)
            .await?;
        self.publish(revocation.as_ref()).await;
        Ok(RotatedSecret { secret, old_expires })
    }

    fn event(&self, principal: &Principal, kind: AuditType, id: &ClientId) -> AuditEvent {
        self.trail.event(kind, id, principal.origin()).with_client(id)
    }

    /// Tells every replica about a revocation that the store has recorded.
    async fn publish(&self, revocation: Option<&Revocation>) {
        if let Some(revocation) = revocation {
            self.publisher.publish(revocation).await;
        }
    }
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clients")
    }
}

/// A principal may grant only the caller scopes that it holds itself.
fn check_may_grant(principal: &Principal, scopes: &[String]) -> Result<()> {
    let held = |scope: &str| CallerScope::parse(scope).is_some_and(|scope| principal.holds(scope));
    if scopes.iter().any(|scope| has_caller_prefix(scope) && !held(scope)) {
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

fn grant_names(grants: &[Grant]) -> Vec<&'static str> {
    grants.iter().map(|grant| grant.as_str()).collect()
}
