//! The master key: from the configuration, or a file in the data folder.

use std::path::Path;

use super::draft::Draft;
use super::error::StartError;
use crate::config::{Config, Mode};
use crate::keys::seal::MasterKeyring;
use crate::secret::{Entropy, SecretText};

/// The file of the master key in the data folder; its mode is 0600.
const MASTER_FILE: &str = "master.key";

/// The master key of this deployment. An embedded one without a configured key reads its file; `fresh` tells that the store
/// has no keys yet, and then the file is created.
pub(super) fn load_or_create(config: &Config, fresh: bool, entropy: &dyn Entropy) -> Result<MasterKeyring, StartError> {
    match (&config.keys.master_key, config.mode()) {
        (Some(text), _) => Ok(MasterKeyring::parse(text)?),
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
                    "keys.master_key: {} is missing, and the keys in this data folder are sealed with it",
                    path.display()
                )));
            }
            let text = read_or_create(&path, entropy)
                .map_err(|error| StartError::unreachable(&path.display().to_string(), error))?;
            Ok(MasterKeyring::parse(&text)?)
        }
    }
}

/// The master key, if there is one already. Creates nothing.
pub(super) fn load(config: &Config) -> Result<Option<MasterKeyring>, StartError> {
    if let Some(text) = &config.keys.master_key {
        return Ok(Some(MasterKeyring::parse(text)?));
    }
    let path = config.storage.data_dir.join(MASTER_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(MasterKeyring::parse(&SecretText::new(text.trim_end()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StartError::unreachable(&path.display().to_string(), error)),
    }
}

/// Reads the file, or creates it: complete or not at all, and never over an existing one.
fn read_or_create(path: &Path, entropy: &dyn Entropy) -> std::io::Result<SecretText> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        read => return read.map(|text| SecretText::new(text.trim_end())),
    }
    let key = MasterKeyring::generate(entropy);
    let draft = Draft::beside(path, 0o600, &format!("{}\n", key.expose()), entropy)?;
    // If another process was faster, its key is used.
    draft.claim(path)?;
    std::fs::read_to_string(path).map(|text| SecretText::new(text.trim_end()))
}
