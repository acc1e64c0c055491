//! TLS for a server whose certificate the driver refuses although the file of authorities names exactly that certificate: it says
//! that it is an authority (`CA:TRUE`), as `openssl req -x509` makes it. The driver takes no verifier of ours, so this process
//! verifies the certificate itself, and the driver talks to it through a socket.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::secret::{SystemEntropy, random};
use crate::trust::{ServerVerifier, client_config};

/// The request for TLS: its length, and its code.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The server, and the files of its TLS.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) authorities: PathBuf,
    /// Whether the name in the certificate is checked (`verify-full`).
    pub(super) checks_name: bool,
    /// The certificate of this client and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

/// A socket that leads to the server. Only this process can use it.
#[derive(Debug)]
pub(super) struct Bridge {
    /// What the driver takes for the folder of the socket.
    pub(super) folder: String,
    _task: AbortOnDropHandle<()>,
}

impl Bridge {
    /// Starts to accept connections of the driver.
    pub(super) fn start(tls: &Tls) -> io::Result<Self> {
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
        let verifier = ServerVerifier::of_file(&tls.authorities).map_err(invalid)?;
        let verifier = if tls.checks_name {
            verifier
        } else {
            verifier.without_names()
        };
        let client = tls.client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
        let connector = TlsConnector::from(Arc::new(client_config(verifier, client).map_err(invalid)?));
        let name = ServerName::try_from(tls.host.clone()).map_err(|error| invalid(error.to_string()))?;

        // An abstract socket has no file that another user could replace.
        let number = u128::from_le_bytes(random(&SystemEntropy));
        let socket = format!("countersign-{number:032x}");
        // The driver appends this, and the port.
        let address = SocketAddr::from_abstract_name(format!("{socket}/.s.PGSQL.{}", tls.port))?;
        let listener = StdListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let target = Arc::new((tls.clone(), connector, name));
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) if is_own(&stream) => {
                        let target = Arc::clone(&target);
                        tokio::spawn(async move {
                            if let Err(error) = carry(stream, &target).await {
                                tracing::debug!(%error, "a connection to PostgreSQL broke");
                            }
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(%error, "cannot accept a connection of the driver");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self {
            folder: format!("\0{socket}"),
            _task: AbortOnDropHandle::new(task),
        })
    }
}

/// Whether this process made the connection. Another one would be authenticated by our certificate.
fn is_own(stream: &UnixStream) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    stream
        .peer_cred()
        .is_ok_and(|peer| peer.pid().is_some() && peer.pid() == own)
}

async fn carry(mut driver: UnixStream, target: &(Tls, TlsConnector, ServerName<'static>)) -> io::Result<()> {
    let (tls, connector, name) = target;
    let mut server = TcpStream::connect((tls.host.as_str(), tls.port)).await?;
    server.set_nodelay(true)?;
    server.write_all(&SSL_REQUEST).await?;
    if server.read_u8().await? != b'S' {
        return Err(io::Error::other("the server does not support TLS"));
    }
    let mut server = connector.connect(name.clone(), server).await?;
    copy_bidirectional(&mut driver, &mut server).await.map(drop)
}
