//! Revocations in memory: the index that `Validate` reads, and the feed that keeps it fresh.

#[cfg(feature = "server")]
mod feed;
#[cfg(feature = "server")]
mod freshness;
mod index;
mod pause;
#[cfg(feature = "server")]
mod publisher;
#[cfg(feature = "server")]
mod publishing;
#[cfg(feature = "server")]
mod side;
#[cfg(feature = "server")]
mod unrecorded;
#[cfg(feature = "server")]
mod watch;
#[cfg(feature = "server")]
mod write_back;

#[cfg(feature = "server")]
pub use feed::{Feed, FeedEvent};
#[cfg(feature = "server")]
pub use freshness::Freshness;
pub use index::{Index, SnapshotCursor, retained_until};
pub use pause::PauseDetector;
#[cfg(feature = "server")]
pub use publisher::RevocationPublisher;
#[cfg(feature = "server")]
pub use watch::{Watch, WatchEvent};
