//! What Validate and Issue answered, as metrics. No label value comes from a request.

use std::sync::LazyLock;

use metrics::{Counter, counter, describe_counter};

use crate::grpc::convert::answer::ValidateAnswer;
use crate::model::{ErrorKind, Grant, InactiveReason, Result};
use crate::proto::convert::reason::of_kind;

const VALIDATIONS: &str = "countersign_validate_verdicts_total";
const LOGINS: &str = "countersign_logins_total";

/// The errors of Issue, so that the first of each kind shows as an increase.
const ISSUE_ERRORS: [ErrorKind; 14] = [
    ErrorKind::InvalidRequest,
    ErrorKind::InvalidCredentials,
    ErrorKind::CallerUnauthenticated,
    ErrorKind::CallerNotAllowed,
    ErrorKind::ClientDisabled,
    ErrorKind::GrantNotAllowed,
    ErrorKind::ScopeNotAllowed,
    ErrorKind::AudienceNotAllowed,
    ErrorKind::Throttled,
    ErrorKind::Overloaded,
    ErrorKind::StoreFull,
    ErrorKind::StoreUnavailable,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Internal,
];

/// The handles are made once: Validate is on the path of every request of every other service.
static VERDICTS: LazyLock<ValidateVerdicts> = LazyLock::new(ValidateVerdicts::new);

struct ValidateVerdicts {
    active: Counter,
    inactive: [Counter; InactiveReason::ALL.len()],
}

impl ValidateVerdicts {
    fn new() -> Self {
        Self {
            active: counter!(VALIDATIONS, "verdict" => "active"),
            inactive: InactiveReason::ALL.map(|reason| counter!(VALIDATIONS, "verdict" => reason.as_str())),
        }
    }
}

/// Describes the metrics, and creates them with the value 0. Call it once the recorder is installed.
pub(crate) fn describe() {
    describe_counter!(
        VALIDATIONS,
        "Tokens that Validate and ValidateBatch answered about, by the verdict: active, or why not."
    );
    LazyLock::force(&VERDICTS);
    describe_counter!(
        LOGINS,
        "Calls of Issue, by grant, outcome (success, denied, failed) and the reason of the error."
    );
    for grant in Grant::ALL {
        counter!(LOGINS, "grant" => grant.as_str(), "outcome" => "success", "reason" => "").increment(0);
        for kind in ISSUE_ERRORS {
            count_failure(grant, kind, 0);
        }
    }
}

/// Counts an answer of Validate.
pub(super) fn count_validation(answer: &ValidateAnswer) {
    // An answer that is passed on was counted where it was made.
    let ValidateAnswer::Local(validation) = answer else {
        return;
    };
    match &validation.token {
        Ok(_) => VERDICTS.active.increment(1),
        Err(reason) => {
            let counters = InactiveReason::ALL.iter().zip(&VERDICTS.inactive);
            for (_, counter) in counters.filter(|(known, _)| *known == reason) {
                counter.increment(1);
            }
        }
    }
}

/// Counts a call of Issue that was decided.
pub(super) fn count_login<T>(grant: Grant, issued: &Result<T>) {
    match issued {
        Ok(_) => counter!(LOGINS, "grant" => grant.as_str(), "outcome" => "success", "reason" => "").increment(1),
        Err(error) => count_failure(grant, error.kind, 1),
    }
}

fn count_failure(grant: Grant, kind: ErrorKind, count: u64) {
    let reason = if kind == ErrorKind::DeadlineExceeded {
        "DEADLINE_EXCEEDED"
    } else {
        of_kind(kind).unwrap_or("INTERNAL")
    };
    counter!(LOGINS, "grant" => grant.as_str(), "outcome" => outcome(kind), "reason" => reason).increment(count);
}

/// Whether the caller was refused, or the service could not answer.
const fn outcome(kind: ErrorKind) -> &'static str {
    let is_failure = matches!(
        kind,
        ErrorKind::Overloaded
            | ErrorKind::StoreFull
            | ErrorKind::StoreUnavailable
            | ErrorKind::RevocationsStale
            | ErrorKind::ShuttingDown
            | ErrorKind::DeadlineExceeded
            | ErrorKind::Unimplemented
            | ErrorKind::Internal
    );
    if is_failure { "failed" } else { "denied" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Error;

    #[test]
    fn logins_are_counted_by_grant_outcome_and_reason() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            count_login(Grant::Password, &Ok(()));
            count_login::<()>(Grant::Password, &Err(ErrorKind::InvalidCredentials.into()));
            count_login::<()>(Grant::Password, &Err(ErrorKind::InvalidCredentials.into()));
            count_login::<()>(Grant::ClientSecret, &Err(ErrorKind::Throttled.into()));
            count_login::<()>(Grant::Exchange, &Err(Error::store_unavailable("away")));
        });
        let text = handle.render();
        for line in [
            r#"{grant="password",outcome="success",reason=""} 1"#,
            r#"{grant="password",outcome="denied",reason="INVALID_CREDENTIALS"} 2"#,
            r#"{grant="client_secret",outcome="denied",reason="THROTTLED"} 1"#,
            r#"{grant="exchange",outcome="failed",reason="STORE_UNAVAILABLE"} 1"#,
            r#"{grant="exchange",outcome="denied",reason="INVALID_CREDENTIALS"} 0"#,
        ] {
            let line = format!("{LOGINS}{line}");
            assert!(text.contains(&line), "{line} is not in:\n{text}");
        }
    }
}
