//! Listening: an accept loop of our own, for gRPC and HTTP alike.
//!
//! The loops that come with the libraries accept without limit, spin when the process is out of file descriptors, wait
//! for ever for a silent socket, and never give up on a drain. This one has a cap below the file limit, backs off, and
//! gives every wait a deadline:
//!
//! * at most `max_connections` at once; the next waits in the kernel's queue;
//! * a TLS handshake takes at most [`HANDSHAKE_TIMEOUT`];
//! * data that the peer does not acknowledge within [`TCP_USER_TIMEOUT`] ends the connection;
//! * on a drain: stop accepting, tell every connection, wait at most `drain_timeout`, drop the rest.

mod accept;
mod connection_cap;
mod io;
mod peer;
mod reload;
mod socket;
mod tls;

pub use accept::{ConnectionHandler, Limits, serve};
pub use connection_cap::connection_cap;
pub use io::Io;
pub use peer::{Peer, PeerName};
pub use reload::{Certificates, RELOAD_INTERVAL};
pub use socket::{Listener, SocketFile};
pub use tls::{Security, TlsFiles, TlsMaterial, Validity};

use std::time::Duration;

/// The longest TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long sent data may stay unacknowledged by the peer's kernel.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
