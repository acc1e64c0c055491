//! A database that was replaced may have lost revocations, and with them the epochs that they raised. A login would
//! get tokens that are revoked already.
//!
//! The login is refused until the revocations are written back, a moment later. It does not use the epochs that the index knows: a
//! session with an epoch that the database does not have yet would outlive the revocations that follow there.

use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{ClientId, Epochs, Error, Result, UserId};
use crate::revocation::Feed;

/// `STORE_UNAVAILABLE` if the index of this replica revokes tokens with the epochs that were read for a login, and the store still
/// has no larger ones.
///
/// `read_again` reads the epochs once more: a revocation that was recorded during the login has raised them by then. That login goes
/// on, and its tokens are revoked.
pub(super) async fn check_epochs(
    feed: &Feed,
    (user, client): (Option<UserId>, &ClientId),
    epochs: Epochs,
    read_again: impl Future<Output = Result<Epochs>> + Send,
) -> Result<()> {
    let is_revoked = |epochs: Epochs| {
        let epochs = EpochSet {
            user,
            client: client.clone(),
            session: None,
            epochs,
        };
        feed.index().is_revoked(&RevocationSubject {
            epochs: smallvec::smallvec![epochs],
            ..RevocationSubject::default()
        })
    };
    if is_revoked(epochs) && is_revoked(read_again.await?) {
        return Err(Error::store_unavailable(
            "the database lacks a revocation that this replica knows; it is written back",
        ));
    }
    Ok(())
}
