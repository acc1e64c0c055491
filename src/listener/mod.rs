//! The accept loop of both ports, gRPC and HTTP.
//!
//! The accept loops of the libraries accept without limit, spin when the process is out of file descriptors, wait for
//! ever for a silent socket, and wait for ever during a drain. This loop limits connections to what the limit on open
//! files allows, backs off after errors, and has a timeout for every wait:
//!
//! * at most `max_connections` are open; then an idle one of the source with most gives way to the next one, or the next one
//!   waits;
//! * one source has at most its share of them, so that it cannot keep others out;
//! * a TLS handshake takes at most [`HANDSHAKE_TIMEOUT`];
//! * data that the peer does not acknowledge within [`TCP_USER_TIMEOUT`] ends the connection;
//! * a drain stops accepting, shuts every connection down, waits at most `drain_timeout`, and drops the rest.

mod accept;
mod client_verifier;
mod connection_cap;
mod http1;
mod io;
mod open_connections;
mod peer;
mod per_source;
mod reload;
mod socket;
mod tls;

pub use accept::{ConnectionHandler, IdleGivesWay, Limits, serve};
pub use connection_cap::connection_cap;
pub(crate) use http1::{is_http1, refuse as refuse_http1};
pub use io::Io;
pub use open_connections::{Activity, Busy};
pub use peer::{Peer, PeerName};
pub use per_source::{PerSource, SourceShare};
pub use reload::{Certificates, RELOAD_INTERVAL};
pub use socket::{Listener, SocketFile};
pub use tls::{Security, TlsFiles, TlsMaterial, Validity};

use std::time::Duration;

/// Time limit of a TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long sent data may stay unacknowledged by the peer's kernel before the connection is closed (`tcp(7)`).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
