//! Locks, atomics and hash seeds of the structures that threads share.
//!
//! Their files name these and no others, because `tests/interleavings` compiles the same files with a `sync` of its own, which
//! runs every order of their steps.

pub(crate) use std::hash::RandomState;
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

#[cfg(feature = "client")]
pub(crate) use arc_swap::ArcSwap;
pub(crate) use parking_lot::RwLock;
#[cfg(feature = "server")]
pub(crate) use parking_lot::{Condvar, Mutex};
