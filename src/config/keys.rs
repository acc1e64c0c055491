//! `[keys]`: the master keys and the rotation of signing keys.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::values::{duration, list, secret};
use crate::secret::{SecretBytes, SecretText};

/// The section `[keys]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// The master keys; see [`parse_master_keys`].
    #[serde(default, with = "secret")]
    pub master_key: Option<SecretText>,
    /// The command that prints the master keys, with its arguments; empty if there is none.
    #[serde(deserialize_with = "list")]
    pub master_key_command: Vec<String>,
    /// How long a signing key signs.
    #[serde(with = "duration")]
    pub rotation_period: Duration,
    /// How long a signing key is published before it signs.
    #[serde(with = "duration")]
    pub prepublish: Duration,
    /// How long verifiers may cache the key set.
    #[serde(with = "duration")]
    pub jwks_max_age: Duration,
}

impl Keys {
    /// The configured master keys, in order: the first one seals, each of them opens. Empty if the option is not set.
    pub fn master_keys(&self) -> Result<Vec<SecretBytes<32>>, ConfigError> {
        self.master_key.as_ref().map_or(Ok(Vec::new()), parse_master_keys)
    }

    /// Whether the master keys are configured, by value or by command.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.master_key.is_some() || !self.master_key_command.is_empty()
    }

    pub(super) fn check(&self) -> CheckResult {
        if self.master_key.is_some() && !self.master_key_command.is_empty() {
            let problem = "is set beside keys.master_key: set one of them";
            return Err(ConfigError::at("keys.master_key_command", problem));
        }
        if self
            .master_key_command
            .first()
            .is_some_and(|program| program.trim().is_empty())
        {
            return Err(ConfigError::at(
                "keys.master_key_command",
                "must begin with the name of a program",
            ));
        }
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        self.master_keys()?;
        check::duration("keys.rotation_period", self.rotation_period, second..=3_660 * day)?;
        check::duration("keys.prepublish", self.prepublish, second..=7 * day)?;
        check::duration("keys.jwks_max_age", self.jwks_max_age, second..=day)?;
        if self.prepublish < self.jwks_max_age {
            let problem =
                "must not be shorter than keys.jwks_max_age, else verifiers see tokens of keys that they do not know";
            return Err(ConfigError::at("keys.prepublish", problem));
        }
        Ok(())
    }
}

/// Reads the value of `keys.master_key`: keys of 32 bytes in base64, separated by commas, with white space around them
/// ignored. Either alphabet is accepted, with padding or without, because tools differ.
///
/// # Errors
/// Names the option and the number of the malformed entry. The text of the entry is a secret and stays out of the message.
pub fn parse_master_keys(list: &SecretText) -> Result<Vec<SecretBytes<32>>, ConfigError> {
    let any_padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let standard = GeneralPurpose::new(&STANDARD, any_padding);
    let url_safe = GeneralPurpose::new(&URL_SAFE, any_padding);
    let parse = |(index, entry): (usize, &str)| {
        let entry = entry.trim();
        let decoded = standard.decode(entry).or_else(|_| url_safe.decode(entry));
        let decoded = decoded.map(Zeroizing::new).ok();
        let key = decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        key.map(SecretBytes::new).ok_or_else(|| {
            let number = index + 1;
            let problem =
                format!("entry {number} is not 32 bytes in base64; make a key with `openssl rand -base64 32`");
            ConfigError::at("keys.master_key", problem)
        })
    };
    list.expose().split(',').enumerate().map(parse).collect()
}
