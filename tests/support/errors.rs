//! Errors of calls during an outage: which of them a correct service may answer.

use std::collections::BTreeMap;

/// How often each error was answered, by code and reason.
pub type Errors = BTreeMap<String, u64>;

/// The errors that no outage explains.
///
/// Without a reason an error is of the client itself: its deadline, or a connection to a replica that was killed.
pub fn unexplained(errors: &Errors) -> Vec<&String> {
    let is_internal = |name: &str| name.starts_with("Internal");
    let is_of_service = |name: &str| ["Unknown ", "Cancelled "].iter().any(|code| name.starts_with(code));
    errors
        .keys()
        .filter(|name| is_internal(name) || is_of_service(name))
        .collect()
}
