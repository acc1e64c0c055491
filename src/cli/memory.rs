//! Keeps the memory of the process out of core dumps.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

/// Disables core dumps, whatever the system's setting, because passwords and private keys are in this memory. The resource
/// limit prevents dump files. `PR_SET_DUMPABLE` also prevents dumps to a program and stops other processes of the same user
/// from reading the memory.
pub(super) fn disable_core_dumps() {
    for result in [setrlimit(Resource::RLIMIT_CORE, 0, 0), set_dumpable(false)] {
        if let Err(error) = result {
            tracing::warn!(%error, "cannot disable core dumps; a dump would contain secrets");
        }
    }
}
