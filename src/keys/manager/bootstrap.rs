//! Initial keys: the keys that are generated for a store without them.

use std::sync::Arc;

use super::{KeysConfig, KeysParts};
use crate::clock::UnixMillis;
use crate::keys::rows::{KeySource, secret_row, signing_row};
use crate::keys::signing::SigningKey;
use crate::model::audit::Origin;
use crate::model::{Algorithm, AuditEvent, AuditType, Error, KeyState, Result};
use crate::store::keys::{KeyRows, SecretPurpose, SigningRow};

/// Generates the rows that `stored` lacks: signing keys, secrets and check values.
pub(super) async fn missing_rows(
    parts: &KeysParts,
    config: &KeysConfig,
    stored: &KeyRows,
    now: UnixMillis,
) -> Result<KeyRows> {
    let mut rows = KeyRows::default();
    if stored.signing.is_empty() {
        let active = generate(parts, config.algorithm, now).await?;
        rows.signing.push(SigningRow {
            state: KeyState::Active,
            activated: Some(now),
            ..active
        });
        rows.signing.push(generate(parts, config.algorithm, now).await?);
    }
    let purposes = [(SecretPurpose::Refresh, true), (SecretPurpose::Pepper, config.pepper)];
    for (purpose, is_needed) in purposes {
        if is_needed && !stored.secrets.iter().any(|row| row.purpose == purpose) {
            rows.secrets
                .push(secret_row(purpose, 1, now, &parts.master, &*parts.entropy)?);
        }
    }
    rows.checks = parts.master.check_rows(&*parts.entropy)?;
    rows.checks
        .retain(|check| !stored.checks.iter().any(|row| row.name == check.name));
    Ok(rows)
}

/// Generates a signing key in state PENDING. The primes of an RSA key can take seconds, so this runs on a blocking thread.
pub(super) async fn generate(parts: &KeysParts, algorithm: Algorithm, now: UnixMillis) -> Result<SigningRow> {
    let entropy = Arc::clone(&parts.entropy);
    let generated = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm, &*entropy)).await;
    let key = generated.map_err(Error::internal)??;
    signing_row(&key, KeySource::Generated, now, &parts.master, &*parts.entropy)
}

/// The audit event for the generation of `missing`.
pub(super) fn initial_keys_event(missing: &KeyRows, parts: &KeysParts, now: UnixMillis) -> AuditEvent {
    let subject = missing
        .signing
        .first()
        .map_or_else(String::new, |row| row.id.to_string());
    let event = AuditEvent::new(AuditType::KeyCreated, &subject, &Origin::system(), now, &*parts.entropy);
    let secrets: Vec<&str> = missing.secrets.iter().map(|row| row.purpose.as_str()).collect();
    event
        .with_detail("signing_keys", missing.signing.len())
        .with_detail("secrets", secrets)
        .with_detail("check_values", missing.checks.len())
}
