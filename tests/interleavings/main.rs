//! Every order in which the threads of a replica can take their steps, in the structures that they share.
//!
//! The files of these structures are compiled here a second time, with the locks and atomics of loom in [`sync`]. Loom runs a
//! test once for each order of steps that could make a difference, also the ones that only a machine with weak memory
//! ordering has. A thread that waits for ever is an error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

#[path = "../../src/password/queue.rs"]
mod hashing_queue;
#[expect(dead_code, unreachable_pub, reason = "the service uses the rest")]
mod index;
mod keys;
#[path = "../../src/revocation/publishing.rs"]
mod publishing;
mod sync;
#[path = "../../src/validator/mod.rs"]
#[expect(dead_code, unreachable_pub, unused_imports, reason = "the service uses the rest")]
mod validator;

mod announcing;
mod caching;
mod queueing;

mod clock {
    pub(crate) use countersign::clock::*;
}

mod model {
    pub(crate) use countersign::model::*;
}

mod revocation {
    pub(crate) use countersign::revocation::*;
}
