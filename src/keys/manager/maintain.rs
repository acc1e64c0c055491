//! What happens by itself: the loop of the application calls [`Keys::tick`], again and again.

use std::time::Duration;

use super::select::{Due, due, over, successors};
use super::{ALIVE, Keys};
use crate::keys::ring::KeyRing;
use crate::keys::rows::secret_row;
use crate::model::audit::Origin;
use crate::model::{AuditType, Result};
use crate::secret::random;
use crate::store::keys::{SecretPurpose, SecretRow};

/// What is added to the life of what a key signed or tagged before the key goes: clocks that differ, the grace of a
/// retirement, a replica that hears of it late.
const MARGIN: Duration = Duration::from_mins(1);

/// The longest pause between two ticks: three of them fit into the time after which a replica counts as gone.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

impl Keys {
    /// One round of upkeep: follow the store, tell it what is loaded, publish a standby, rotate what is due, remove what
    /// is over. Safe on any number of replicas at once: the store lets one of them do each thing.
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

    /// How long to wait until the next tick: differs from replica to replica and from time to time.
    #[must_use]
    pub fn pause(&self) -> Duration {
        let base = (self.config.rotation_period / 8).clamp(Duration::from_millis(100), LONGEST_PAUSE);
        let [jitter] = random::<1>(&*self.parts.entropy);
        base.mul_f64(0.8 + 0.2 * f64::from(jitter) / 255.0)
    }

    async fn rotate_if_due(&self, origin: &Origin) -> Result<()> {
        let ring = self.current();
        let due = due(
            &ring,
            self.config.algorithm,
            self.config.rotation_period,
            self.cautious_now(),
        );
        if due == Due::No {
            return Ok(());
        }
        for successor in successors(&ring, self.config.algorithm) {
            if due == Due::AtOnce || self.is_known(&successor).await? {
                self.activate(&successor.id, ring.active_id(), origin).await?;
                break;
            }
        }
        Ok(())
    }

    /// A new refresh key after each rotation period, and at once if the newest was tampered with. Tokens are tagged with
    /// it when it has been published for `keys.prepublish`.
    async fn rotate_refresh_key(&self, origin: &Origin) -> Result<()> {
        let now = self.cautious_now();
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
            &self.parts.master,
            &*self.parts.entropy,
        )?;
        let audit = self.audit(AuditType::KeyCreated, &format!("refresh/{}", row.id), origin);
        self.parts.store.add_secret(&row, id, &audit).await?;
        self.reload().await.map(drop)
    }

    async fn remove_signing_keys(&self, origin: &Origin) -> Result<()> {
        let span = self.config.longest_access.saturating_add(MARGIN);
        for id in over(&self.current(), span, self.cautious_now()) {
            let audit = self.audit(AuditType::KeyRemoved, &id, origin);
            if self.parts.store.remove_key(&id, &audit).await? {
                tracing::info!(key_id = %id, "a signing key is removed: everything that it signed has expired");
            }
        }
        Ok(())
    }

    /// A refresh key goes when the youngest session that it can have tagged has ended: it tags until its successor has
    /// been published long enough and every replica has noticed.
    async fn remove_refresh_keys(&self, origin: &Origin) -> Result<()> {
        let now = self.cautious_now();
        let last_use = self.config.prepublish.saturating_add(ALIVE);
        let span = last_use
            .saturating_add(self.config.longest_session)
            .saturating_add(MARGIN);
        let ring = self.current();
        for row in refresh_rows(&ring) {
            let successor = refresh_rows(&ring)
                .filter(|other| other.id > row.id)
                .min_by_key(|other| other.id);
            if successor.is_some_and(|successor| successor.created.plus(span) <= now) {
                let audit = self.audit(AuditType::KeyRemoved, &format!("refresh/{}", row.id), origin);
                self.parts.store.remove_secret(row.purpose, row.id, &audit).await?;
            }
        }
        Ok(())
    }
}

fn refresh_rows(ring: &KeyRing) -> impl Iterator<Item = &SecretRow> {
    let rows = ring.rows().secrets.iter();
    rows.filter(|row| row.purpose == SecretPurpose::Refresh)
}
