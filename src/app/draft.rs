//! New files in folders that other users may write to.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::secret::{Entropy, random};

/// A complete file beside the path where it is wanted. Dropping it removes it, unless it was moved.
#[derive(Debug)]
pub(super) struct Draft(PathBuf);

impl Draft {
    /// Writes a file beside `path`, with these permissions (before the umask).
    ///
    /// The file is always a new one: a link that another user made there is not followed. Its name cannot be guessed, so
    /// it cannot be taken in advance, neither by another user nor by a process that was killed.
    pub(super) fn beside(path: &Path, mode: u32, text: &str, entropy: &dyn Entropy) -> io::Result<Self> {
        let name = u64::from_le_bytes(random(entropy));
        let draft = path.with_extension(format!("{name:016x}.tmp"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)?;
        let draft = Self(draft);
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Moves the file to `path`. Replaces a file there; of a link, the link itself.
    pub(super) fn replace(self, path: &Path) -> io::Result<()> {
        std::fs::rename(&self.0, path)
    }

    /// Gives the file the name `path`, unless a file has it: then `false`.
    pub(super) fn claim(self, path: &Path) -> io::Result<bool> {
        match std::fs::hard_link(&self.0, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            linked => linked.map(|()| true),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After `replace` it is gone.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::secret::SystemEntropy;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_at_the_path_is_replaced_and_its_target_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("ready.json"), folder.path().join("target"));
        std::fs::write(&target, "precious").unwrap();
        symlink(&target, &path).unwrap();
        let draft = Draft::beside(&path, 0o644, "new", &SystemEntropy).unwrap();
        draft.replace(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert!(path.symlink_metadata().unwrap().is_file());
        assert_eq!(names(folder.path()), ["ready.json", "target"]);
    }

    #[test]
    fn a_link_that_has_the_name_of_the_draft_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("ready.json"), folder.path().join("target"));
        std::fs::write(&target, "precious").unwrap();
        // Randomness that the attacker knows.
        let known = || FixedEntropy;
        let taken = path.with_extension(format!("{:016x}.tmp", 0x0101_0101_0101_0101_u64));
        symlink(&target, &taken).unwrap();
        let refused = Draft::beside(&path, 0o644, "new", &known()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
        assert!(
            taken.symlink_metadata().unwrap().is_symlink(),
            "it is not ours to remove"
        );
    }

    #[test]
    fn a_claim_replaces_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let draft = |text| Draft::beside(&path, 0o600, text, &SystemEntropy).unwrap();
        assert!(draft("one").claim(&path).unwrap());
        assert!(!draft("two").claim(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), ["master.key"]);
    }

    #[derive(Debug)]
    struct FixedEntropy;

    impl Entropy for FixedEntropy {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(1);
        }
    }
}
