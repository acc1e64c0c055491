//! What is listened on: an address, or a socket file that only its owner may use.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// What is listened on.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A socket file.
    Unix(SocketFile),
}

/// One who came.
pub(super) enum Accepted {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => listener
                .accept()
                .await
                .map(|(stream, address)| Accepted::Tcp(stream, address)),
            Self::Unix(file) => file.listener.accept().await.map(|(stream, _)| Accepted::Unix(stream)),
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// A socket file (mode 0600), removed when dropped; one that a service manager made is left to it.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    /// The file of ours, and its inode.
    made: Option<(PathBuf, u64)>,
}

impl SocketFile {
    /// Listens on `path`. What a process that is gone left there is replaced.
    ///
    /// # Errors
    /// `AddrInUse` if somebody answers there, `AlreadyExists` if it is no socket, and what the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(there) = path.symlink_metadata() {
            if !there.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "it exists and is no socket",
                ));
            }
            if Probe::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "somebody serves there already",
                ));
            }
        }
        // Made out of everybody's reach, and moved where it belongs once only its owner may use it: between bind and
        // chmod it would lie open to whomever the umask lets in. The names are short: a socket's path has 107 bytes.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let hidden = parent
            .unwrap_or(Path::new("."))
            .join(format!(".c{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&hidden)?;
        let made = Self::bind_hidden(&hidden.join("s"), path);
        // Empty by now, or the start has failed already.
        let _ = std::fs::remove_dir_all(&hidden);
        made
    }

    fn bind_hidden(hidden: &Path, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(hidden)?;
        std::fs::set_permissions(hidden, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(hidden, path)?;
        let inode = path.symlink_metadata()?.ino();
        Ok(Self {
            listener,
            made: Some((path.to_owned(), inode)),
        })
    }
}

impl From<UnixListener> for SocketFile {
    fn from(listener: UnixListener) -> Self {
        Self { listener, made: None }
    }
}

impl From<SocketFile> for Listener {
    fn from(file: SocketFile) -> Self {
        Self::Unix(file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Some((path, inode)) = &self.made else { return };
        // Another process may have put its own there meanwhile.
        if path.symlink_metadata().is_ok_and(|there| there.ino() == *inode) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let file = SocketFile::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            SocketFile::bind(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse,
            "somebody serves there"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        // A process that was killed leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (first, second) = (SocketFile::bind(&path).unwrap(), folder.path().join("other"));
        drop(first);

        std::fs::write(&second, "a letter").unwrap();
        assert_eq!(
            SocketFile::bind(&second).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&second).unwrap(), "a letter");
    }
}
