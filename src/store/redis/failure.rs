//! What an error of the client library means: did Redis answer, did the call run, and which error is it for callers?

use fred::error::Error as FredError;

use crate::model::{Error, ErrorKind};

/// What a node of a cluster says about a call that it did not run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirection<'a> {
    /// MOVED: the node at this address has the slot.
    Moved(Address<'a>),
    /// ASK: the node at this address has the key, although its slot has not moved yet. It must be told so, by ASKING.
    Asked(Address<'a>),
    /// TRYAGAIN: the keys of the call are on two nodes.
    Later,
}

/// The address of a node, as another one names it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address<'a> {
    /// The same as that of the node that answered if it is empty.
    pub(super) host: &'a str,
    pub(super) port: u16,
}

impl<'a> Redirection<'a> {
    pub(super) fn of(error: &'a FredError) -> Option<Self> {
        let mut words = error.details().split(' ');
        let word = words.next()?;
        // The slot stands between.
        let address = words.nth(1).and_then(|address| address.rsplit_once(':'));
        let address = address.and_then(|(host, port)| {
            Some(Address {
                host,
                port: port.parse().ok()?,
            })
        });
        match (word, address) {
            ("MOVED", Some(address)) => Some(Self::Moved(address)),
            ("ASK", Some(address)) => Some(Self::Asked(address)),
            ("MOVED" | "ASK" | "TRYAGAIN", _) => Some(Self::Later),
            _ => None,
        }
    }
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
            (
                "TRYAGAIN Multiple keys request during rehashing of slot",
                ErrorKind::StoreUnavailable,
            ),
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
            let is_redirected = details.contains(" 7 ") || details.starts_with("TRYAGAIN");
            assert_eq!(Redirection::of(&error).is_some(), is_redirected, "{details}");
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
            assert!(!is_answer(&error) && Redirection::of(&error).is_none(), "{details}");
        }
    }

    #[test]
    fn the_node_that_is_named_is_read() {
        for (details, named) in [
            ("7 127.0.0.1:7000", Some(("127.0.0.1", 7000))),
            ("7 ::1:7000", Some(("::1", 7000))),
            ("7 redis-2.example:7000", Some(("redis-2.example", 7000))),
            ("7 :7000", Some(("", 7000))),
            ("7 127.0.0.1:70000", None),
            ("", None),
        ] {
            let address = || named.map(|(host, port)| Address { host, port });
            let of = |details: String| FredError::new(FredKind::Unknown, details);
            let moved = address().map_or(Redirection::Later, Redirection::Moved);
            assert_eq!(Redirection::of(&of(format!("MOVED {details}"))), Some(moved));
            let asked = address().map_or(Redirection::Later, Redirection::Asked);
            assert_eq!(Redirection::of(&of(format!("ASK {details}"))), Some(asked));
        }
    }
}
