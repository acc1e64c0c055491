//! What is revoked, in memory: the index that `Validate` asks, and the feed that keeps it fresh.

#[cfg(feature = "server")]
mod feed;
#[cfg(feature = "server")]
mod freshness;
mod index;
mod judge;
#[cfg(feature = "server")]
mod publisher;
#[cfg(feature = "server")]
mod watch;

#[cfg(feature = "server")]
pub use feed::{Feed, FeedConfig, OnStale, WatchItem};
#[cfg(feature = "server")]
pub use freshness::Freshness;
pub use index::{CHUNKS, Index, retained_until};
pub use judge::judge;
#[cfg(feature = "server")]
pub use publisher::RevocationPublisher;
#[cfg(feature = "server")]
pub use watch::{Watch, Watched};
