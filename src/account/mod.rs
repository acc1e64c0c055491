//! Managing users, clients and the audit trail: checks before a store is asked, and side effects after its answer.
//!
//! Every operation takes a [`Principal`]. The gRPC services make it from the caller; the command line acts as the owner of
//! the store. Checks that need only the request are done here. Checks against the current row (the role `admin`, the
//! `countersign:*` scopes of a client) are done by the store inside its transaction.

pub mod audit;
pub mod clients;
mod fields;
pub mod paging;
mod principal;
mod secrets;
#[cfg(test)]
mod tests;
pub mod users;

pub use audit::AuditTrail;
pub use clients::{ClientDraft, Clients};
pub use principal::Principal;
pub use secrets::{CLIENT_SECRET_PREFIX, RESET_TOKEN_PREFIX};
pub use users::{Sessions, UserDraft, UserKey, Users};

use crate::model::{Error, Result};
use crate::store::Page;

/// One page of a list, for the caller.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPage<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// The opaque token of the next page, valid for the same query only; empty on the last page.
    pub next_page_token: String,
}

impl<T> ListPage<T> {
    fn of(page: Page<T>, query: &paging::ListQuery) -> Self {
        Self {
            items: page.items,
            next_page_token: page.next.map(|key| query.page_token(&key)).unwrap_or_default(),
        }
    }
}

/// Checks that an update mask is not empty and holds only `known` paths.
fn check_update_mask(mask: &[String], known: &[&str]) -> Result<()> {
    if mask.is_empty() {
        return Err(Error::invalid(
            "update_mask",
            format!("must name at least one of: {}", known.join(", ")),
        ));
    }
    if mask.iter().all(|path| known.contains(&path.as_str())) {
        return Ok(());
    }
    Err(Error::invalid(
        "update_mask",
        format!("holds a path that is not one of: {}", known.join(", ")),
    ))
}
