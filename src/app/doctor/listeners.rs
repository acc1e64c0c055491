//! The check of the addresses: can `serve` listen there, or does a server listen already?

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::net::UnixStream;

use super::{Findings, State};
use crate::app::bind;
use crate::app::health::{HealthTarget, health};
use crate::config::{Config, Listen};

const ABOUT: &str = "listeners";

pub(super) async fn look(config: &Config, found: &mut Findings) {
    let server = &config.server;
    let http = Listen::Tcp(server.http_listen);
    let mut taken = false;
    for (key, listen) in [("server.listen", &server.listen), ("server.http_listen", &http)] {
        match try_listen(listen) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken = true,
            Err(error) => {
                found.add(ABOUT, State::Unreachable, bind::explain(key, listen, &error));
                return;
            }
        }
    }
    if !taken {
        found.good(ABOUT, format!("{} and {} are free", server.listen, server.http_listen));
        return;
    }
    // A server of this deployment may run, which is how `doctor` is mostly used.
    match health(&HealthTarget::of(server), "").await {
        Ok(report) if report.serves() => found.good(ABOUT, format!("a server answers at {}", server.listen)),
        Ok(report) => {
            let mut message = format!(
                "a server answers at {}, and its health is {}",
                server.listen, report.status
            );
            if !report.failing.is_empty() {
                message = format!("{message}; not serving: {}", report.failing.join(", "));
            }
            found.add(ABOUT, State::Doubtful, format!("{message}; its log tells why"));
        }
        Err(error) => {
            let message = format!(
                "another process listens on {} or {} (`ss -ltnp` shows it), and it is no server with this configuration ({error}): \
                 end it or choose other addresses",
                server.listen, server.http_listen
            );
            found.add(ABOUT, State::Doubtful, message);
        }
    }
}

/// Listens for a moment. A socket file is not made; a folder for it must exist.
fn try_listen(listen: &Listen) -> io::Result<()> {
    match listen {
        Listen::Tcp(address) => match TcpListener::bind(address) {
            // All addresses of a machine without IPv6 are its IPv4 addresses.
            Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && error.kind() != io::ErrorKind::AddrInUse => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).map(drop)
            }
            bound => bound.map(drop),
        },
        Listen::Unix(path) => {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            std::fs::metadata(folder.unwrap_or_else(|| ".".as_ref()))?;
            match UnixStream::connect(path) {
                Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
                // The socket of a process that has ended is replaced.
                Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind()) => {
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
    }
}
