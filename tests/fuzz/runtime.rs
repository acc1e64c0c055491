//! Calls that never wait.

use std::sync::LazyLock;

use futures_util::FutureExt as _;
use tokio::runtime::{Builder, Runtime};

/// The timers of the stores want a runtime, although they never run.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

/// The result of a call that never waits.
pub(crate) fn done<T>(call: impl Future<Output = T>) -> T {
    let _entered = RUNTIME.enter();
    call.now_or_never().unwrap()
}
