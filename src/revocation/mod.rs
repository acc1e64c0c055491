//! What is revoked, in memory: the index that `Validate` asks, and the feed that keeps it fresh.

#[cfg(feature = "server")]
mod feed;
#[cfg(feature = "server")]
mod freshness;
mod index;
#[cfg(feature = "server")]
mod watch;

#[cfg(feature = "server")]
pub use feed::{Feed, FeedConfig, OnStale, WatchItem};
#[cfg(feature = "server")]
pub use freshness::Freshness;
pub use index::{CHUNKS, Index, retained_until};
#[cfg(feature = "server")]
pub use watch::{Watch, Watched};
