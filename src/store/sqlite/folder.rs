//! The data folder: closed to other users, and served by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::model::{Error, ErrorKind, Result};

/// The file name of the database in the data folder.
const DATABASE: &str = "countersign.db";

/// The file name of the lock in the data folder.
const LOCK: &str = "serve.lock";

/// Creates the data folder (0700) if it is absent, closes it to other users, and returns the path of the database.
///
/// A folder that is open to other users and holds files but no database is refused: closing it would lock those users
/// out of their files.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf> {
    let unusable = |error: io::Error| {
        Error::new(ErrorKind::StoreUnavailable, "the data folder cannot be used")
            .because(format!("{}: {error}", folder.display()))
    };
    let database = folder.join(DATABASE);
    match std::fs::metadata(folder) {
        Ok(metadata) => {
            let open = metadata.permissions().mode() & 0o077 != 0;
            let ours = || Ok(database.exists() || std::fs::read_dir(folder)?.next().is_none());
            if open && !ours().map_err(unusable)? {
                return Err(Error::new(
                    ErrorKind::StoreUnavailable,
                    "the data folder is open to other users and holds other files; choose a folder of its own",
                ));
            }
            if open {
                std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(unusable)?;
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(unusable)?;
        }
        Err(error) => return Err(unusable(error)),
    }
    // SQLite gives its `-wal` and `-shm` files the permissions of the database, so these are set before SQLite opens
    // it. An existing database is not opened here, because closing it would drop SQLite's own locks in this process.
    if database.exists() {
        std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o600)).map_err(unusable)?;
    } else {
        private_file(&database).map_err(unusable)?;
    }
    Ok(database)
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
    let file = private_file(&folder.join(LOCK)).map_err(Error::store_unavailable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        // Not `STORE_UNAVAILABLE`, because trying again later would not help.
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::Internal,
            "another `serve` runs on this data folder",
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
