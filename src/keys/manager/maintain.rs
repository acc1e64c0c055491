//! Periodic maintenance of the keys. The maintenance loop of the application calls [`Keys::tick`].

use std::time::Duration;

use super::select::{RotationDue, expired_keys, rotation_due, successors};
use super::{Keys, REPLICA_TTL};
use crate::keys::ring::KeyRing;
use crate::keys::rows::secret_row;
use crate::model::audit::Origin;
use crate::model::{AuditType, Result};
use crate::secret::random;
use crate::store::keys::{SecretPurpose, SecretRow};

/// How long a key stays after its last token has expired, to allow for clock differences, the grace period of a retirement
/// and replicas that learn of it late.
const REMOVAL_MARGIN: Duration = Duration::from_mins(1);

/// The longest pause between two ticks. Three of them fit into [`REPLICA_TTL`].
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

impl Keys {
    /// Runs one round of maintenance: reloads the ring, announces the loaded keys, publishes a standby, rotates keys that are
    /// due and removes expired ones. Any number of replicas may run it at once: the store accepts each change from one of them.
    pub async fn tick(&self) -> Result<()> {
        let origin = Origin::system();
        self.reload().await?;
        self.heartbeat().await?;
        self.ensure_standby(&origin).await?;
        self.rotate_if_due(&origin).await?;
        self.rotate_refresh_key(&origin).await?;
        self.remove_signing_keys(&origin).await?;
        self.remove_refresh_keys(&origin).await?;
        self.reload().await.map(drop)
    }

    /// The pause until the next tick, with jitter so that replicas do not tick together.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let base = (self.config.rotation_period / 8).clamp(Duration::from_millis(100), LONGEST_PAUSE);
        let [jitter] = random::<1>(&*self.vault.entropy);
        base.mul_f64(0.8 + 0.2 * f64::from(jitter) / 255.0)
    }

    async fn rotate_if_due(&self, origin: &Origin) -> Result<()> {
        let ring = self.current();
        let due = rotation_due(
            &ring,
            self.config.algorithm,
            self.config.rotation_period,
            self.capped_now(),
        );
        if due == RotationDue::No {
            return Ok(());
        }
        for successor in successors(&ring, self.config.algorithm) {
            if due == RotationDue::Immediately || self.is_loaded_everywhere(&successor).await? {
                self.activate(&successor.id, ring.active_id(), origin).await?;
                break;
            }
        }
        Ok(())
    }

    /// Adds a refresh key after each rotation period, and immediately if the newest one was tampered with. It tags tokens
    /// once it has been published for `keys.prepublish`.
    async fn rotate_refresh_key(&self, origin: &Origin) -> Result<()> {
        let now = self.capped_now();
        let ring = self.current();
        let newest = refresh_rows(&ring).max_by_key(|row| row.id);
        let (id, due) = newest.map_or((0, true), |row| {
            let broken = ring.is_tampered_secret(row.purpose, row.id);
            (row.id, broken || row.created.plus(self.config.rotation_period) <= now)
        });
        if !due {
            return Ok(());
        }
        let row = secret_row(
            SecretPurpose::Refresh,
            id.saturating_add(1),
            now,
            &self.vault.master,
            &*self.vault.entropy,
        )?;
        let audit = self.audit(AuditType::KeyCreated, &format!("refresh/{}", row.id), origin);
        self.vault.store.add_secret(&row, id, &audit).await?;
        self.reload().await.map(drop)
    }

    async fn remove_signing_keys(&self, origin: &Origin) -> Result<()> {
        let span = self.config.longest_access.saturating_add(REMOVAL_MARGIN);
        for id in expired_keys(&self.current(), span, self.capped_now()) {
            let audit = self.audit(AuditType::KeyRemoved, &id, origin);
            if self.vault.store.remove_key(&id, &audit).await? {
                tracing::info!(key_id = %id, "removed a signing key: all tokens that it signed have expired");
            }
        }
        Ok(())
    }

    /// Removes the refresh keys whose youngest possible session has ended. A refresh key tags tokens until its successor has
    /// been published for `keys.prepublish` and each replica has reloaded.
    async fn remove_refresh_keys(&self, origin: &Origin) -> Result<()> {
        let now = self.capped_now();
        let last_use = self.config.prepublish.saturating_add(REPLICA_TTL);
        let span = last_use
            .saturating_add(self.config.longest_session)
            .saturating_add(REMOVAL_MARGIN);
        let ring = self.current();
        for row in refresh_rows(&ring) {
            let successor = refresh_rows(&ring)
                .filter(|other| other.id > row.id)
                .min_by_key(|other| other.id);
            if successor.is_some_and(|successor| successor.created.plus(span) <= now) {
                let audit = self.audit(AuditType::KeyRemoved, &format!("refresh/{}", row.id), origin);
                self.vault.store.remove_secret(row.purpose, row.id, &audit).await?;
            }
        }
        Ok(())
    }
}

fn refresh_rows(ring: &KeyRing) -> impl Iterator<Item = &SecretRow> {
    let rows = ring.rows().secrets.iter();
    rows.filter(|row| row.purpose == SecretPurpose::Refresh)
}
