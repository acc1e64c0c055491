//! The rules of users, clients and the audit trail: what is checked before a store is asked, and what must follow
//! when it has answered.
//!
//! Every rule takes a [`Principal`]: on whose behalf it runs. The edge makes it of the caller, the command line is the
//! store's owner. What must hold against the row as it is *then* (the role `admin`, a client's `countersign:*`
//! scopes) is checked by the store inside its transaction; the rules check what the request alone tells.

pub mod audit;
pub mod clients;
mod fields;
mod paging;
mod principal;
mod secrets;
#[cfg(test)]
mod tests;
pub mod users;

pub use audit::Trail;
pub use clients::{ClientDraft, Clients};
pub use principal::Principal;
pub use secrets::{CLIENT_SECRET_PREFIX, RESET_TOKEN_PREFIX};
pub use users::{Sessions, UserDraft, UserKey, Users};

use crate::model::{Error, Result};
use crate::store::Page;

/// A page as it goes to the caller: `next_page_token` is empty at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Opaque; good for the same query only.
    pub next_page_token: String,
}

impl<T> Listing<T> {
    fn of(page: Page<T>, query: &paging::Query) -> Self {
        Self {
            items: page.items,
            next_page_token: page.next.map(|key| query.token(&key)).unwrap_or_default(),
        }
    }
}

/// The path in the request's update mask, or the error that names it.
fn unknown_path(mask: &[String], known: &[&str]) -> Result<()> {
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
