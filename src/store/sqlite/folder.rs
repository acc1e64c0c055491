//! The data folder: closed to other users, and served by one process at a time.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::AccessFlags;

use crate::model::{Error, ErrorKind, Result};

/// The file name of the database in the data folder.
const DATABASE: &str = "countersign.db";

/// The file name of the lock in the data folder.
const LOCK: &str = "serve.lock";

/// Names in a data folder that do not make it the folder of another program: our own files, and the folder that ext4
/// makes in the root of a volume.
const OURS: [&str; 6] = [
    DATABASE,
    "countersign.db-wal",
    "countersign.db-shm",
    "master.key",
    LOCK,
    "lost+found",
];

/// Creates the data folder (0700) if it is absent, closes it and the database to other users, and returns the path of the
/// database.
///
/// * A folder that is open to other users and holds files of another program is refused: closing it would lock those users
///   out of their files.
/// * A volume may belong to root and be open to a group (Kubernetes' `fsGroup`). This process cannot close it, but root and
///   the group are trusted with it; its files are closed. A folder of any other user is refused, because that user could
///   replace the files.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf> {
    let cannot = |error: io::Error| unusable(folder, &error);
    let database = folder.join(DATABASE);
    match std::fs::metadata(folder) {
        Ok(metadata) => {
            check_folder(folder, &metadata)?;
            close_folder(folder, &metadata)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(cannot)?;
        }
        Err(error) => return Err(cannot(error)),
    }
    // SQLite gives its `-wal` and `-shm` files the permissions of the database, so these are set before SQLite opens
    // it. An existing database is not opened here, because closing it would drop SQLite's own locks in this process.
    if database.exists() {
        for path in database_files(folder) {
            close_file(&path).map_err(|error| unusable(&path, &error))?;
        }
        check_access(folder)?;
    } else {
        private_file(&database).map_err(cannot)?;
    }
    Ok(database)
}

/// Checks that this process can use the folder and its files. Changes nothing; a folder that does not exist is right.
pub(super) fn examine(folder: &Path) -> Result<()> {
    match std::fs::metadata(folder) {
        Ok(metadata) => {
            check_folder(folder, &metadata)?;
            check_access(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unusable(folder, &error)),
    }
}

/// The files of an existing database.
fn database_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let names = [DATABASE, "countersign.db-wal", "countersign.db-shm"];
    names
        .map(|name| folder.join(name))
        .into_iter()
        .filter(|path| path.exists())
}

/// Checks that this process may write the folder and the files of the database, which opening a file would tell only for
/// the price of SQLite's locks.
fn check_access(folder: &Path) -> Result<()> {
    for path in std::iter::once(folder.to_owned()).chain(database_files(folder)) {
        nix::unistd::access(&path, AccessFlags::R_OK | AccessFlags::W_OK)
            .map_err(|error| unusable(&path, &error.into()))?;
    }
    Ok(())
}

/// Refuses a folder that cannot be the data folder, or that another user controls.
fn check_folder(folder: &Path, metadata: &Metadata) -> Result<()> {
    let cannot = |error: io::Error| unusable(folder, &error);
    let mode = metadata.permissions().mode();
    if !metadata.is_dir() {
        return Err(cannot(io::ErrorKind::NotADirectory.into()));
    }
    if mode & 0o077 != 0 && !folder.join(DATABASE).exists() {
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            if !OURS.iter().any(|ours| name == *ours) {
                return Err(Error::new(
                    ErrorKind::StoreUnavailable,
                    format!(
                        "the data folder {} is open to other users and holds other files ({}); choose a folder of its own \
                         (storage.data_dir)",
                        folder.display(),
                        name.display()
                    ),
                ));
            }
        }
    }
    let own = nix::unistd::geteuid();
    // Root can read and replace every file anyway. Another user could replace the database if the folder is that user's.
    if !own.is_root() && ![0, own.as_raw()].contains(&metadata.uid()) {
        return Err(Error::new(
            ErrorKind::StoreUnavailable,
            format!("the data folder {}", foreign_owner(folder, metadata)),
        ));
    }
    Ok(())
}

fn close_folder(folder: &Path, metadata: &Metadata) -> Result<()> {
    let cannot = |error: io::Error| unusable(folder, &error);
    let (own, mode) = (nix::unistd::geteuid(), metadata.permissions().mode());
    if own.is_root() || metadata.uid() == own.as_raw() {
        if mode & 0o077 != 0 {
            std::fs::set_permissions(folder, Permissions::from_mode(0o700)).map_err(cannot)?;
        }
        return Ok(());
    }
    if mode & 0o022 != 0 {
        tracing::warn!(
            path = %folder.display(),
            mode = format!("{:04o}", mode & 0o7777),
            group = metadata.gid(),
            "the data folder belongs to root and others may write to it: they could replace its files, which only this user can \
             read; chown it to this user for more"
        );
    }
    Ok(())
}

/// Closes a file of the data folder to other users. Volumes are mounted with other modes: Kubernetes' `fsGroup` opens every
/// file to a group.
pub fn close_file(path: &Path) -> io::Result<()> {
    let metadata = std::fs::metadata(path)?;
    if metadata.permissions().mode().trailing_zeros() >= 7 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o600))
}

/// The error of a data folder, or of a file in it, with its owner and the cure.
fn unusable(path: &Path, error: &io::Error) -> Error {
    let cause = match (error.kind(), std::fs::metadata(path)) {
        (io::ErrorKind::PermissionDenied, Ok(metadata)) => foreign_owner(path, &metadata),
        (io::ErrorKind::PermissionDenied, Err(_)) => {
            let uid = nix::unistd::geteuid();
            format!(
                "{}: {error}: user {uid} may not enter or write a folder above it",
                path.display()
            )
        }
        (io::ErrorKind::ReadOnlyFilesystem, _) => format!(
            "{} is on a read-only file system: mount a volume there, or name another folder in storage.data_dir",
            path.display()
        ),
        (io::ErrorKind::NotADirectory, _) => format!(
            "{} is not a folder: name another one in storage.data_dir",
            path.display()
        ),
        _ => format!("{}: {error}", path.display()),
    };
    Error::new(
        ErrorKind::StoreUnavailable,
        format!("the data folder cannot be used: {cause}"),
    )
}

/// The owner and mode of a file that this process may not use, with the cure.
fn foreign_owner(path: &Path, metadata: &Metadata) -> String {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    if metadata.uid() == uid.as_raw() {
        let mode = metadata.permissions().mode() & 0o7777;
        return format!(
            "{0} has mode {mode:04o}, which keeps out its owner, user {uid}: chmod -R u+rwX {0}",
            path.display()
        );
    }
    format!(
        "{0} belongs to user {1} with mode {2:04o}, and this process runs as user {uid}: chown -R {uid}:{gid} {0}",
        path.display(),
        metadata.uid(),
        metadata.permissions().mode() & 0o7777,
    )
}

/// The path of the database, if there is one.
pub(super) fn existing(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(DATABASE)).filter(|path| path.exists())
}

/// Whether the folder has a database. An empty file is none: the process that created it ended before it wrote a schema.
pub(super) fn has_database(folder: &Path) -> bool {
    std::fs::metadata(folder.join(DATABASE)).is_ok_and(|file| file.len() > 0)
}

/// Locks the folder for serving, until the file that is answered is closed or the process ends.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = private_file(&path).map_err(|error| unusable(&path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Not `STORE_UNAVAILABLE`, because trying again later would not help.
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Internal,
            format!("another `serve` runs on this data folder ({})", folder.display()),
        )),
        Err(TryLockError::Error(error)) => Err(Error::store_unavailable(error)),
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}
