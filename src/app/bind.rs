//! The listening sockets: addresses of the configuration, or sockets passed by a service manager (`sd_listen_fds(3)`).

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as Tcp};
use std::os::unix::net::UnixListener as Unix;

use listenfd::ListenFd;
use tokio::net::{TcpListener, UnixListener};

use super::error::StartError;
use crate::config::Listen;
use crate::listener::{Listener, SocketFile};

/// Sockets passed to the process at its start: the first is for gRPC, the second for the side port.
#[derive(Debug, Default)]
pub struct Inherited {
    grpc: Option<Passed>,
    http: Option<Tcp>,
}

#[derive(Debug)]
enum Passed {
    Tcp(Tcp),
    Unix(Unix),
}

impl Inherited {
    /// Takes the passed sockets. To be called once, before there is another thread: it removes environment variables.
    ///
    /// # Errors
    /// A socket of the wrong type, or more than two.
    pub fn take() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let grpc = match passed.take_tcp_listener(0) {
            Ok(tcp) => tcp.map(Passed::Tcp),
            Err(_) => passed.take_unix_listener(0)?.map(Passed::Unix),
        };
        let http = passed.take_tcp_listener(1)?;
        if passed.len() > 2 {
            let problem = "more than two sockets were passed: one for gRPC, one for the side port";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        Ok(Self { grpc, http })
    }

    /// The addresses of the passed sockets: gRPC, and the side port. None for one that was not passed: the configuration
    /// has its address.
    pub fn addresses(&self) -> io::Result<(Option<Listen>, Option<SocketAddr>)> {
        let grpc = match &self.grpc {
            None => None,
            Some(Passed::Tcp(listener)) => Some(Listen::Tcp(listener.local_addr()?)),
            Some(Passed::Unix(listener)) => {
                let address = listener.local_addr()?;
                Some(Listen::Unix(address.as_pathname().unwrap_or("?".as_ref()).to_owned()))
            }
        };
        Ok((grpc, self.http.as_ref().map(Tcp::local_addr).transpose()?))
    }

    /// The listener for gRPC, and its address.
    pub(super) async fn grpc(&mut self, key: &str, listen: &Listen) -> Result<(Listener, Listen), StartError> {
        let cannot = |error: io::Error| StartError::Unreachable(explain(key, listen, &error));
        let listener: Listener = match (self.grpc.take(), listen) {
            (Some(Passed::Tcp(passed)), _) => tcp(passed).map_err(cannot)?.into(),
            (Some(Passed::Unix(passed)), _) => {
                passed.set_nonblocking(true).map_err(cannot)?;
                SocketFile::from(UnixListener::from_std(passed).map_err(cannot)?).into()
            }
            (None, Listen::Tcp(address)) => {
                let listener = bind(*address).await.map_err(cannot)?;
                let address = listener.local_addr().map_err(cannot)?;
                return Ok((listener.into(), Listen::Tcp(address)));
            }
            (None, Listen::Unix(path)) => SocketFile::bind(path).map_err(cannot)?.into(),
        };
        Ok((listener, listen.clone()))
    }

    /// The listener for the side port, and its address.
    pub(super) async fn http(&mut self, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
        let cannot = |error: io::Error| StartError::Unreachable(explain("server.http_listen", &address, &error));
        let listener = match self.http.take() {
            Some(passed) => tcp(passed),
            None => bind(address).await,
        }
        .map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        Ok((listener, address))
    }
}

/// Listens on the address. All addresses of a machine without IPv6 are its IPv4 addresses.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(_) if address.is_ipv6() && address.ip().is_unspecified() && !has_ipv6() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    }
}

fn has_ipv6() -> bool {
    Tcp::bind((std::net::Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// What an operator can do about an error of listening.
const CURES: [(io::ErrorKind, &str); 4] = [
    (
        io::ErrorKind::AddrInUse,
        "; another process listens there (`ss -ltnp` shows it): end it or choose another address",
    ),
    (
        io::ErrorKind::AddrNotAvailable,
        "; this machine does not have that address: 0.0.0.0 or [::] stand for all it has",
    ),
    (
        io::ErrorKind::PermissionDenied,
        "; a port below 1024 needs CAP_NET_BIND_SERVICE, and a socket a folder that this user may write to",
    ),
    (io::ErrorKind::NotFound, "; the folder of the socket does not exist"),
];

/// Why the address of an option cannot be listened on, with the cure.
pub(super) fn explain(key: &str, address: &impl fmt::Display, error: &io::Error) -> String {
    let cure = CURES.iter().find(|(kind, _)| *kind == error.kind());
    let cure = cure.map_or("", |(_, cure)| cure);
    format!("{key}: {address}: {error}{cure}")
}

fn tcp(passed: Tcp) -> io::Result<TcpListener> {
    passed.set_nonblocking(true)?;
    TcpListener::from_std(passed)
}
