//! The order in which a revocation reaches the index and the watchers.

use crate::sync::Mutex;

/// Held while a revocation is added to the index and sent to the watchers, so that one which is in the index has been sent. The
/// heartbeat after it promises that.
#[derive(Debug, Default)]
pub(super) struct Publishing(Mutex<()>);

impl Publishing {
    /// Calls `tell` if `add` has changed the index. When this returns, the watchers have been told, also if another thread added
    /// the revocation.
    pub(super) fn publish(&self, add: impl FnOnce() -> bool, tell: impl FnOnce()) {
        let _publishing = self.0.lock();
        if add() {
            tell();
        }
    }
}
