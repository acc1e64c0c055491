//! The order in which a revocation reaches the index and the watchers.

use crate::sync::Mutex;

/// Held while a revocation is added to the index and sent to the watchers, so that one which is in the index has been sent. The
/// heartbeat after it promises that.
#[derive(Debug, Default)]
pub(super) struct Publishing(Mutex<()>);

impl Publishing {
    /// Calls `tell` if `add` has changed the index, and returns whether it has. When this returns, the watchers have been told,
    /// also if another thread added the revocation.
    pub(super) fn publish(&self, add: impl FnOnce() -> bool, tell: impl FnOnce()) -> bool {
        let _publishing = self.0.lock();
        let is_changed = add();
        if is_changed {
            tell();
        }
        is_changed
    }
}
