//! What is looked at rather than counted, once a second. Every label has a fixed set of values.

use super::services::App;
use crate::grpc::health::ComponentHealth;
use crate::grpc::layers::Pipeline;
use crate::model::KeyState;

/// Says what each metric of this room means, and makes those that count from the start exist from the start.
pub(super) fn describe() {
    for (name, help) in [
        (
            "countersign_token_cache_entries",
            "Access tokens whose verification is remembered.",
        ),
        ("countersign_token_cache_bytes", "The memory that they take."),
        (
            "countersign_revocation_index_entries",
            "Revocations that could concern an unexpired access token.",
        ),
        (
            "countersign_revocations_age_seconds",
            "How old what is known of revocations is; above revocation.max_staleness nothing is validated.",
        ),
        (
            "countersign_clock_skew_seconds",
            "How far this machine's clock is ahead of the store's.",
        ),
        (
            "countersign_store_up",
            "Whether a store answers: users (database) or sessions (Redis).",
        ),
        (
            "countersign_ready",
            "Whether Validate is answered here: what /readyz says.",
        ),
        ("countersign_calls_in_flight", "Calls and streams that have not ended."),
        (
            "countersign_signing_keys",
            "Signing keys by where they are in their life.",
        ),
        (
            "countersign_signing_key_age_seconds",
            "For how long the ACTIVE key has signed; keys.rotation_period is its limit.",
        ),
        (
            "countersign_sealed_rows_refused",
            "Sealed rows of the key ring that do not open under keys.master_key.",
        ),
        (
            "countersign_database_connections",
            "Connections to the database, by pool and by whether they are used.",
        ),
        (
            "countersign_database_callers",
            "Who has a connection to the database or waits for one.",
        ),
        (
            "countersign_redis_connections",
            "Connections to Redis that carry scripts, by state.",
        ),
        (
            "countersign_sqlite_queue_length",
            "Transitions that wait for the thread that writes.",
        ),
    ] {
        metrics::describe_gauge!(name, help);
    }
    metrics::describe_counter!(
        "countersign_refresh_verdicts_total",
        "What presented refresh tokens turned out to be."
    );
    metrics::describe_counter!(
        "countersign_reconciliations_total",
        "Reconciliations of the revocations with the database."
    );
    for verdict in [
        "rotated",
        "replayed",
        "fast_forwarded",
        "reused",
        "reused_successor_unused",
        "refused",
        "expired",
        "unknown",
        "too_far_ahead",
    ] {
        metrics::counter!("countersign_refresh_verdicts_total", "verdict" => verdict).increment(0);
    }
    for outcome in ["done", "failed"] {
        metrics::counter!("countersign_reconciliations_total", "outcome" => outcome).increment(0);
    }
    for reason in ["full", "deadline"] {
        metrics::counter!("countersign_password_refused_total", "reason" => reason).increment(0);
    }
}

/// Looks at everything.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(super) fn look(app: &App, pipeline: &Pipeline, parts: ComponentHealth) {
    let (tokens, bytes) = app.validator.cache_size();
    metrics::gauge!("countersign_token_cache_entries").set(tokens as f64);
    metrics::gauge!("countersign_token_cache_bytes").set(bytes as f64);
    metrics::gauge!("countersign_revocation_index_entries").set(app.feed.index().len() as f64);
    metrics::gauge!("countersign_calls_in_flight").set(pipeline.calls_in_flight() as f64);
    // Counted here: a queue that forgets callers who are gone changes without anybody coming or going.
    metrics::gauge!("countersign_password_queued").set(app.hashing.queued() as f64);
    if let Some(fresh) = app.feed.last() {
        metrics::gauge!("countersign_revocations_age_seconds").set(fresh.age(&*app.stores.clock).as_secs_f64());
        metrics::gauge!("countersign_clock_skew_seconds").set(fresh.skew_millis() as f64 / 1000.0);
    }
    for (store, up) in [("users", parts.users), ("sessions", parts.sessions)] {
        metrics::gauge!("countersign_store_up", "store" => store).set(f64::from(u8::from(up)));
    }
    metrics::gauge!("countersign_ready").set(f64::from(u8::from(parts.revocations)));
    keys(app);
    (app.stores.meter)();
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn keys(app: &App) {
    let listed = app.keys.listed();
    for (name, state) in [
        ("pending", KeyState::Pending),
        ("active", KeyState::Active),
        ("retired", KeyState::Retired),
        ("revoked", KeyState::Revoked),
    ] {
        let count = listed.iter().filter(|key| key.state == state).count();
        metrics::gauge!("countersign_signing_keys", "state" => name).set(count as f64);
    }
    let active = listed.iter().find(|key| key.state == KeyState::Active);
    if let Some(activated) = active.and_then(|key| key.activated) {
        let age = app.stores.clock.now().since(activated);
        metrics::gauge!("countersign_signing_key_age_seconds").set(age.as_secs_f64());
    }
    let unusable_rows = app.keys.current().unusable_rows().len();
    metrics::gauge!("countersign_sealed_rows_refused").set(unusable_rows as f64);
}
