//! Gauges, set once a second. Every label has a fixed set of values.

use super::services::App;
use crate::grpc::health::ComponentHealth;
use crate::grpc::layers::{GateKind, Pipeline};
use crate::model::{KeyState, Level};

/// The gauges and their help.
const GAUGES: [(&str, &str); 21] = [
    (
        "countersign_database_superseded",
        "1 while this replica is connected to a database server that a promoted standby has replaced.",
    ),
    (
        "countersign_token_cache_entries",
        "Verified access tokens in the cache.",
    ),
    (
        "countersign_token_cache_bytes",
        "Memory of the cache of verified access tokens.",
    ),
    (
        "countersign_revocation_index_entries",
        "Revocations that can concern an unexpired access token.",
    ),
    (
        "countersign_revocations_age_seconds",
        "Age of the last reconciliation of revocations; above revocation.max_staleness no token is validated.",
    ),
    (
        "countersign_clock_skew_seconds",
        "How far this machine's clock is ahead of the store's.",
    ),
    (
        "countersign_store_up",
        "Whether a store answers, and the database takes writes: users (database) or sessions (Redis).",
    ),
    (
        "countersign_ready",
        "Whether this replica answers Validate, as /readyz reports.",
    ),
    ("countersign_calls_in_flight", "Calls and streams that have not ended."),
    (
        "countersign_gate_in_use",
        "How much of a gate is in use: calls, streams, anonymous streams, bytes of requests under way, large windows.",
    ),
    ("countersign_signing_keys", "Signing keys by state."),
    (
        "countersign_signing_key_age_seconds",
        "How long the ACTIVE key has been signing; keys.rotation_period is its limit.",
    ),
    (
        "countersign_sealed_rows_refused",
        "Sealed rows of the key ring that cannot be opened with keys.master_key.",
    ),
    (
        "countersign_database_connections",
        "Connections to the database, by pool and by whether they are in use.",
    ),
    (
        "countersign_database_callers",
        "Tasks that have a connection to the database or wait for one.",
    ),
    (
        "countersign_redis_connections",
        "Connections to Redis that carry scripts, by state.",
    ),
    (
        "countersign_sqlite_queue_length",
        "Transitions that wait for the writer thread.",
    ),
    (
        "countersign_sessions",
        "Stored sessions, read once a minute. In Redis an estimate from a sample of the keys, the same for every replica.",
    ),
    (
        "countersign_redis_memory_used_bytes",
        "Memory in use, of all masters together; read every 15 s.",
    ),
    (
        "countersign_redis_memory_max_bytes",
        "maxmemory of all masters together; 0 if one has no limit.",
    ),
    (
        "countersign_redis_memory_used_ratio",
        "Memory in use as a fraction of maxmemory, of the fullest master; 0 without a limit.",
    ),
];

/// Describes the metrics of this module, and creates its counters with the value 0.
pub(super) fn describe() {
    for (name, help) in GAUGES {
        metrics::describe_gauge!(name, help);
    }
    crate::grpc::services::describe();
    metrics::describe_counter!(
        "countersign_refresh_verdicts_total",
        "Presented refresh tokens, by the result of the rotation."
    );
    metrics::describe_counter!(
        "countersign_reconciliations_total",
        "Reconciliations of the revocations with the database."
    );
    metrics::describe_counter!(
        "countersign_revocations_written_back_total",
        "Revocations that a replaced database had lost and this replica wrote back, by level."
    );
    for level in Level::ALL {
        metrics::counter!("countersign_revocations_written_back_total", "level" => level.as_str()).increment(0);
    }
    for verdict in [
        "rotated",
        "replayed",
        "fast_forwarded",
        "reused",
        "reused_successor_unused",
        "refused",
        "late",
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

/// Sets all gauges.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(super) fn set_gauges(app: &App, pipeline: &Pipeline, health: ComponentHealth) {
    let (tokens, bytes) = app.validator.cache_size();
    metrics::gauge!("countersign_token_cache_entries").set(tokens as f64);
    metrics::gauge!("countersign_token_cache_bytes").set(bytes as f64);
    metrics::gauge!("countersign_revocation_index_entries").set(app.feed.index().len() as f64);
    let mut calls = 0;
    for gate in GateKind::ALL {
        let in_use = pipeline.in_use(gate);
        metrics::gauge!("countersign_gate_in_use", "gate" => gate.name()).set(in_use as f64);
        if matches!(gate, GateKind::Calls | GateKind::Streams | GateKind::AnonymousStreams) {
            calls += in_use;
        }
    }
    metrics::gauge!("countersign_calls_in_flight").set(calls as f64);
    // Set here and not at each change: the queue also shrinks when callers disconnect, without any event.
    metrics::gauge!("countersign_password_queued").set(app.hashing.queued() as f64);
    if let Some(freshness) = app.feed.last() {
        metrics::gauge!("countersign_revocations_age_seconds").set(freshness.age(&*app.stores.clock).as_secs_f64());
        metrics::gauge!("countersign_clock_skew_seconds").set(freshness.skew_millis() as f64 / 1000.0);
    }
    for (store, up) in [("users", health.users && health.writes), ("sessions", health.sessions)] {
        metrics::gauge!("countersign_store_up", "store" => store).set(f64::from(u8::from(up)));
    }
    let ready = health.revocations && !pipeline.full_gates().any(|gate| gate.is_essential);
    metrics::gauge!("countersign_ready").set(f64::from(u8::from(ready)));
    set_key_gauges(app);
    (app.stores.update_gauges)();
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn set_key_gauges(app: &App) {
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
