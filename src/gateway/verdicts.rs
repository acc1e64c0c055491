//! The decisions on proxied requests, as a metric.

use super::decision::{Decision, RefusalReason};
use crate::model::Result;

const METRIC: &str = "countersign_gateway_verdicts_total";

/// The values of the label `verdict`.
const VERDICTS: [&str; 7] = [
    "admitted",
    "no_token",
    "invalid_token",
    "insufficient_scope",
    "insufficient_role",
    "cross_site",
    "undecided",
];

/// Describes the metric, and creates it with the value 0.
pub(super) fn describe() {
    metrics::describe_counter!(
        METRIC,
        "Decisions of Check and /authorize on proxied requests; undecided ones are answered with UNAVAILABLE or 503."
    );
    for verdict in VERDICTS {
        metrics::counter!(METRIC, "verdict" => verdict).increment(0);
    }
}

/// Counts a decision.
pub(super) fn count(decided: &Result<Decision>) {
    let verdict = match decided {
        Ok(Decision::Admitted(_)) => "admitted",
        Ok(Decision::Refused(refusal)) => match refusal.reason {
            RefusalReason::NoToken => "no_token",
            RefusalReason::BadToken(_) => "invalid_token",
            RefusalReason::MissingScope(_) => "insufficient_scope",
            RefusalReason::MissingRole => "insufficient_role",
            RefusalReason::CrossSite => "cross_site",
        },
        Err(_) => "undecided",
    };
    metrics::counter!(METRIC, "verdict" => verdict).increment(1);
}
