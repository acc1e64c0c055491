//! The master key: from the configuration, a command, or a file in the data folder.

mod command;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::draft::Draft;
use super::error::StartError;
use crate::config::{Config, Mode};
use crate::keys::seal::MasterKeyring;
use crate::secret::{Entropy, SecretText};
use crate::store::sqlite::close_file;

/// The file of the master key in the data folder; its mode is 0600.
const MASTER_FILE: &str = "master.key";

/// The master key of this deployment. An embedded one without a configured key reads its file; `fresh` tells that the store
/// has no keys yet, and then the file is created.
pub(super) fn load_or_create(config: &Config, fresh: bool, entropy: &dyn Entropy) -> Result<MasterKeyring, StartError> {
    match (configured(config)?, config.mode()) {
        (Some(master), _) => Ok(master),
        (None, Mode::Clustered) => Err(StartError::Config(
            "keys.master_key: needed with storage.database_url; every replica has the same \
             (make one: head -c32 /dev/urandom | base64)"
                .to_owned(),
        )),
        (None, Mode::Embedded) => {
            let path = config.storage.data_dir.join(MASTER_FILE);
            if !fresh && !path.exists() {
                // A new key could open nothing: creating one would hide that the old one is missing.
                return Err(StartError::Config(format!(
                    "keys.master_key: {} is missing, and the keys in this data folder are sealed with it: restore your copy of it",
                    path.display()
                )));
            }
            close(&path)?;
            let text = read_or_create(&path, entropy)
                .map_err(|error| StartError::unreachable(&path.display().to_string(), error))?;
            Ok(MasterKeyring::parse(&text)?)
        }
    }
}

/// The master key of `keys.master_key` or `keys.master_key_command`; none if neither is set.
fn configured(config: &Config) -> Result<Option<MasterKeyring>, StartError> {
    const COMMAND: &str = "keys.master_key_command";
    let keys = &config.keys;
    if let Some(text) = &keys.master_key {
        return Ok(Some(MasterKeyring::parse(text)?));
    }
    if keys.master_key_command.is_empty() {
        return Ok(None);
    }
    let printed = command::run(&keys.master_key_command)
        .map_err(|problem| StartError::Unreachable(format!("{COMMAND}: {problem}")))?;
    // The message of the error names the option `keys.master_key`, and does not contain the key.
    let master = MasterKeyring::parse(&printed);
    Ok(Some(master.map_err(|error| {
        StartError::Config(format!("{COMMAND}: the program printed no master keys: {error}"))
    })?))
}

/// The master key, if there is one already. Creates nothing.
pub(super) fn load(config: &Config) -> Result<Option<MasterKeyring>, StartError> {
    if let Some(master) = configured(config)? {
        return Ok(Some(master));
    }
    let path = config.storage.data_dir.join(MASTER_FILE);
    match SecretText::read_file(&path) {
        Ok(text) => Ok(Some(MasterKeyring::parse(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StartError::unreachable(&path.display().to_string(), error)),
    }
}

/// Closes the file to other users, if it exists: a volume may have been mounted with other modes.
fn close(path: &Path) -> Result<(), StartError> {
    let Err(error) = close_file(path) else { return Ok(()) };
    if error.kind() == std::io::ErrorKind::NotFound {
        return Ok(());
    }
    if error.kind() == std::io::ErrorKind::ReadOnlyFilesystem {
        return Err(StartError::Unreachable(format!(
            "{} holds the master key, is open to other users and cannot be closed, because its volume is read-only: mount it with the \
             mode 0400 (defaultMode in Kubernetes), or name it in COUNTERSIGN_KEYS__MASTER_KEY_FILE",
            path.display()
        )));
    }
    let owner = std::fs::metadata(path).map_or_else(|error| error.to_string(), |file| file.uid().to_string());
    let own = nix::unistd::geteuid();
    Err(StartError::Unreachable(format!(
        "{0} holds the master key, is open to other users and belongs to user {owner}, and this process runs as user {own}: \
         chown {own} {0} && chmod 0600 {0}",
        path.display()
    )))
}

/// Reads the file, or creates it: complete or not at all, and never over an existing one.
fn read_or_create(path: &Path, entropy: &dyn Entropy) -> std::io::Result<SecretText> {
    match SecretText::read_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        read => return read,
    }
    let key = MasterKeyring::generate(entropy);
    let draft = Draft::beside(path, 0o600, &format!("{}\n", key.expose()), entropy)?;
    // If another process was faster, its key is used.
    draft.claim(path)?;
    SecretText::read_file(path)
}
