//! What becomes of the process's memory when it dies.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// No core dump, whatever the system is set to: passwords and private keys pass through this memory. The first is for
/// files, the second also for programs that are given dumps, and keeps others of the same user from reading it.
pub(super) fn keep() {
    for done in [setrlimit(Resource::RLIMIT_CORE, 0, 0), set_dumpable(false)] {
        if let Err(error) = done {
            tracing::warn!(%error, "core dumps cannot be turned off");
        }
    }
}
