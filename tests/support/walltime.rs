//! A different wall clock for one process: `libfaketime` (Debian's `faketime`) shifts it, and leaves the monotonic
//! clock alone.

use std::path::{Path, PathBuf};

use super::guard;
use super::serve::Storage;

/// A wall clock with an offset. Dropping it changes nothing.
#[derive(Debug)]
pub struct WallTime {
    offset: PathBuf,
}

impl WallTime {
    /// A clock with this offset: `+90s`, `-1h`, `+12y`.
    pub fn shifted(offset: &str) -> Self {
        let new = Self {
            offset: guard::scratch("clock").join("offset"),
        };
        new.set(offset);
        new
    }

    /// Changes the offset while processes use the clock.
    pub fn set(&self, offset: &str) {
        // Replaced by a rename, because it is read at every look at the clock.
        let draft = self.offset.with_extension("new");
        std::fs::write(&draft, format!("{offset}\n")).unwrap();
        std::fs::rename(&draft, &self.offset).unwrap();
    }

    /// The deployment whose processes, from now on, use this clock.
    pub fn apply_to(&self, storage: &Storage) -> Storage {
        storage
            .clone()
            .env("LD_PRELOAD", &library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

/// The library where Debian installs it, on any architecture.
fn library() -> PathBuf {
    const NAME: &str = "faketime/libfaketimeMT.so.1";
    let multiarch = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    multiarch
        .chain(["/usr/lib", "/usr/local/lib"].map(|folder| Path::new(folder).to_owned()))
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file())
        .expect("libfaketimeMT is not installed: tests/run does that")
}
