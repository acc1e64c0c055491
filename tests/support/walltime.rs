//! Another wall clock for one process: `libfaketime` (Debian's `faketime`) shifts it, and leaves the monotonic one alone.

use std::path::{Path, PathBuf};

use super::guard;
use super::serve::Storage;

/// A wall clock that is off by what it was last set to. Dropping it changes nothing.
#[derive(Debug)]
pub struct WallTime {
    offset: PathBuf,
}

impl WallTime {
    /// One that is off by this much: `+90s`, `-1h`, `+12y`.
    pub fn shifted(offset: &str) -> Self {
        let new = Self {
            offset: guard::scratch("clock").join("offset"),
        };
        new.set(offset);
        new
    }

    /// Sets it while processes run by it.
    pub fn set(&self, offset: &str) {
        // Renamed into its place: it is read at every look at the clock.
        let draft = self.offset.with_extension("new");
        std::fs::write(&draft, format!("{offset}\n")).unwrap();
        std::fs::rename(&draft, &self.offset).unwrap();
    }

    /// A deployment whose processes, from now on, run by this clock.
    pub fn rule(&self, storage: &Storage) -> Storage {
        storage
            .clone()
            .env("LD_PRELOAD", &library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }
}

/// Where Debian puts it, on any machine.
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
