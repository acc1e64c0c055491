//! Listening sockets: a TCP address, or a Unix socket that only its owner can use.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::secret::{SystemEntropy, random};

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// A TCP address.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(SocketFile),
}

/// An accepted connection.
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

/// A Unix socket with mode 0600. Its file is removed when dropped, unless a service manager made the socket.
#[derive(Debug)]
pub struct SocketFile {
    listener: UnixListener,
    /// The file that we made, and its inode.
    made: Option<(PathBuf, u64)>,
}

impl SocketFile {
    /// Listens on `path`. The socket of a process that has ended is replaced.
    ///
    /// # Errors
    /// `AddrInUse` if a process listens there, `AlreadyExists` if the file is not a socket, and errors of the system.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Ok(there) = path.symlink_metadata() {
            if !there.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "the file exists and is not a socket",
                ));
            }
            if Probe::connect(path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens there",
                ));
            }
        }
        // Made in a private folder, and renamed to its place once its mode is 0600: otherwise the umask would decide
        // about access between bind and chmod. The names are short because the path of a socket has at most 107 bytes.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let hidden = private_folder(parent.unwrap_or(Path::new(".")))?;
        let made = Self::bind_hidden(&hidden.join("s"), path);
        // The folder is empty now, unless the start has failed.
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

/// Creates a folder that only this user can open. Its name is random: that of a killed process or of another user's folder
/// could otherwise be in the way, for ever if the process id is the same at each start.
fn private_folder(parent: &Path) -> io::Result<PathBuf> {
    let mut tries = 0;
    loop {
        let [a, b, c] = random(&SystemEntropy);
        let folder = parent.join(format!(".c{a:02x}{b:02x}{c:02x}"));
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < 8 => tries += 1,
            created => return created.map(|()| folder),
        }
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
        // Another process may have put a socket of its own there.
        if path.symlink_metadata().is_ok_and(|there| there.ino() == *inode) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_can_use_the_socket_and_its_file_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let file = SocketFile::bind(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            SocketFile::bind(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse,
            "a process listens there"
        );
        drop(file);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

        // A killed process with this id left its folder.
        let left = folder.path().join(format!(".c{}", std::process::id()));
        std::fs::create_dir(&left).unwrap();
        drop(SocketFile::bind(&path).unwrap());
        std::fs::remove_dir(left).unwrap();

        // A killed process leaves its file.
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
