//! What a store is given that lacks it.

use std::sync::Arc;

use super::{KeysConfig, KeysParts};
use crate::clock::UnixMillis;
use crate::keys::rows::{Provenance, secret_row, signing_row};
use crate::keys::signing::SigningKey;
use crate::model::audit::Origin;
use crate::model::{Algorithm, AuditEvent, AuditType, Error, KeyState, Result};
use crate::store::keys::{KeyRows, SecretPurpose, SigningRow};

/// What `stored` lacks.
pub(super) async fn propose(
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
    let wanted = [(SecretPurpose::Refresh, true), (SecretPurpose::Pepper, config.pepper)];
    for (purpose, _) in wanted.into_iter().filter(|(_, wanted)| *wanted) {
        if !stored.secrets.iter().any(|row| row.purpose == purpose) {
            rows.secrets
                .push(secret_row(purpose, 1, now, &parts.master, &*parts.entropy)?);
        }
    }
    rows.checks = parts.master.check_rows(&*parts.entropy)?;
    rows.checks
        .retain(|check| !stored.checks.iter().any(|row| row.name == check.name));
    Ok(rows)
}

/// A fresh signing key, PENDING. RSA primes take their time: elsewhere than where calls are served.
pub(super) async fn generate(parts: &KeysParts, algorithm: Algorithm, now: UnixMillis) -> Result<SigningRow> {
    let entropy = Arc::clone(&parts.entropy);
    let made = tokio::task::spawn_blocking(move || SigningKey::generate(algorithm, &*entropy)).await;
    let key = made.map_err(Error::internal)??;
    signing_row(&key, Provenance::Generated, now, &parts.master, &*parts.entropy)
}

/// The audit event of what is proposed.
pub(super) fn made(proposed: &KeyRows, parts: &KeysParts, now: UnixMillis) -> AuditEvent {
    let subject = proposed
        .signing
        .first()
        .map_or_else(String::new, |row| row.id.to_string());
    let event = AuditEvent::new(AuditType::KeyCreated, &subject, &Origin::system(), now, &*parts.entropy);
    let secrets: Vec<&str> = proposed.secrets.iter().map(|row| row.purpose.as_str()).collect();
    event
        .with_detail("signing_keys", proposed.signing.len())
        .with_detail("secrets", secrets)
        .with_detail("check_values", proposed.checks.len())
}
