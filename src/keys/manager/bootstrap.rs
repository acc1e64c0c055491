//! Initial keys: the keys that are generated for a store without them.

use std::sync::Arc;

use super::{KeyVault, KeysConfig};
use crate::clock::UnixMillis;
use crate::keys::published;
use crate::keys::rows::{KeySource, secret_row, signing_row};
use crate::keys::signing::SigningKey;
use crate::model::audit::Origin;
use crate::model::{Algorithm, AuditEvent, AuditType, Error, KeyState, Result};
use crate::store::keys::{KeyRows, SecretPurpose, SigningRow};

impl KeyVault {
    /// Generates the rows that `stored` lacks: signing keys, secrets and check values.
    pub(super) async fn missing_rows(&self, config: &KeysConfig, stored: &KeyRows, now: UnixMillis) -> Result<KeyRows> {
        let mut rows = KeyRows::default();
        if stored.signing.is_empty() {
            let active = self.generate(config.algorithm, now).await?;
            rows.signing.push(SigningRow {
                state: KeyState::Active,
                activated: Some(now),
                ..active
            });
            rows.signing.push(self.generate(config.algorithm, now).await?);
        }
        let purposes = [(SecretPurpose::Refresh, true), (SecretPurpose::Pepper, config.pepper)];
        for (purpose, is_needed) in purposes {
            if is_needed && !stored.secrets.iter().any(|row| row.purpose == purpose) {
                rows.secrets
                    .push(secret_row(purpose, 1, now, &self.master, &*self.entropy)?);
            }
        }
        rows.checks = self.master.check_rows(&*self.entropy)?;
        rows.checks
            .retain(|check| !stored.checks.iter().any(|row| row.name == check.name));
        Ok(rows)
    }

    /// Generates a signing key in state PENDING, which another JWT library can read. The primes of an RSA key can take seconds, so this runs on a blocking thread.
    pub(super) async fn generate(&self, algorithm: Algorithm, now: UnixMillis) -> Result<SigningRow> {
        let entropy = Arc::clone(&self.entropy);
        let generated = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm, &*entropy)).await;
        let key = generated.map_err(Error::internal)??;
        published::check_new(&key).map_err(|problem| Error::internal(format!("the new signing key {problem}")))?;
        signing_row(&key, KeySource::Generated, now, &self.master, &*self.entropy)
    }

    /// The audit event for the generation of `missing`.
    pub(super) fn initial_keys_event(&self, missing: &KeyRows, now: UnixMillis) -> AuditEvent {
        let subject = missing
            .signing
            .first()
            .map_or_else(String::new, |row| row.id.to_string());
        let event = AuditEvent::new(AuditType::KeyCreated, &subject, &Origin::system(), now, &*self.entropy);
        let secrets: Vec<&str> = missing.secrets.iter().map(|row| row.purpose.as_str()).collect();
        event
            .with_detail("signing_keys", missing.signing.len())
            .with_detail("secrets", secrets)
            .with_detail("check_values", missing.checks.len())
    }
}
