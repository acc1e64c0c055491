//! What an error of the client library means: did Redis answer, did the call run, and which error is it for callers?

use fred::error::Error as FredError;

use crate::model::{Error, ErrorKind};

/// Whether a node of a cluster refused the call before it ran anything: another node has the slot (MOVED) or already the key (ASK), or
/// the keys of the call are on two nodes (TRYAGAIN).
pub(super) fn was_redirected(error: &FredError) -> bool {
    ["MOVED ", "ASK ", "TRYAGAIN "]
        .iter()
        .any(|answer| error.details().starts_with(answer))
}

/// Whether Redis itself sent this error. Any other error means that no answer arrived.
pub(super) fn is_answer(error: &FredError) -> bool {
    let first = error.details().split(' ').next();
    first.is_some_and(|word| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase()))
}

/// The error of a failed call. The text of Redis goes to the log only.
pub(super) fn to_store_error(error: &FredError) -> Error {
    let details = error.details();
    match details.split(' ').next().unwrap_or_default() {
        "OOM" => Error::from(ErrorKind::StoreFull).because(format!("Redis: {details}")),
        // A defect of Countersign: a script that fails, a key of another type, an invalid argument.
        "ERR" | "WRONGTYPE" => Error::internal(format!("Redis: {details}")),
        _ => Error::store_unavailable(format!("Redis: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use fred::error::ErrorKind as FredKind;

    use super::*;

    #[test]
    fn each_redis_error_maps_to_the_kind_that_tells_the_caller_what_to_do() {
        for (details, kind) in [
            ("OOM allow-oom flag is not set on the script", ErrorKind::StoreFull),
            (
                "READONLY You can't write against a read only replica.",
                ErrorKind::StoreUnavailable,
            ),
            (
                "LOADING Redis is loading the dataset in memory",
                ErrorKind::StoreUnavailable,
            ),
            ("MASTERDOWN Link with MASTER is down", ErrorKind::StoreUnavailable),
            ("BUSY Redis is busy running a script", ErrorKind::StoreUnavailable),
            ("CLUSTERDOWN The cluster is down", ErrorKind::StoreUnavailable),
            ("MISCONF Errors writing to the AOF file", ErrorKind::StoreUnavailable),
            ("NOAUTH Authentication required.", ErrorKind::StoreUnavailable),
            ("MOVED 7 127.0.0.1:7000", ErrorKind::StoreUnavailable),
            ("ASK 7 127.0.0.1:7000", ErrorKind::StoreUnavailable),
            ("TRYAGAIN 7 keys during rehashing of slot", ErrorKind::StoreUnavailable),
            (
                "VERSION a session record of another version",
                ErrorKind::StoreUnavailable,
            ),
            ("ERR user_script:7: attempt to index nil", ErrorKind::Internal),
        ] {
            let error = FredError::new(FredKind::Unknown, details);
            let store_error = to_store_error(&error);
            assert_eq!(store_error.kind, kind, "{details}");
            assert!(!store_error.message.contains(' ') || !store_error.message.contains(details));
            assert!(is_answer(&error), "{details}");
            assert_eq!(was_redirected(&error), details.contains(" 7 "), "{details}");
        }
        for (kind, details) in [
            (FredKind::Timeout, "Request timed out."),
            (FredKind::IO, "Connection closed."),
            (FredKind::Canceled, "Connection closed unexpectedly."),
            (FredKind::Backpressure, "Max in-flight commands reached."),
            (FredKind::Unknown, "Too many failed write attempts."),
        ] {
            let error = FredError::new(kind, details);
            assert_eq!(to_store_error(&error).kind, ErrorKind::StoreUnavailable, "{details}");
            assert!(!is_answer(&error) && !was_redirected(&error), "{details}");
        }
    }
}
