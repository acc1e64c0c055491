//! `[keys]`: the master keys and the rhythm of rotation.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::check::{self, Checked};
use super::error::ConfigError;
use super::values::{duration, secret};
use crate::secret::{SecretBytes, SecretText};

/// `[keys]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Keys {
    /// Base64, with commas; see [`Keys::master_keys`].
    #[serde(default, with = "secret")]
    pub master_key: Option<SecretText>,
    /// How long a signing key signs.
    #[serde(with = "duration")]
    pub rotation_period: Duration,
    /// How long it is published before.
    #[serde(with = "duration")]
    pub prepublish: Duration,
    /// How long verifiers may keep the key set.
    #[serde(with = "duration")]
    pub jwks_max_age: Duration,
}

impl Keys {
    /// The master keys: the first seals, all open. Empty if none is configured.
    pub fn master_keys(&self) -> Result<Vec<SecretBytes<32>>, ConfigError> {
        let Some(list) = &self.master_key else {
            return Ok(Vec::new());
        };
        list.expose()
            .split(',')
            .map(|text| parse_master_key(text.trim()))
            .collect()
    }

    pub(super) fn check(&self) -> Checked {
        let (second, day) = (Duration::from_secs(1), Duration::from_hours(24));
        self.master_keys()?;
        check::span("keys.rotation_period", self.rotation_period, second..=3_660 * day)?;
        check::span("keys.prepublish", self.prepublish, second..=7 * day)?;
        check::span("keys.jwks_max_age", self.jwks_max_age, second..=day)?;
        if self.prepublish < self.jwks_max_age {
            let problem = "must not be shorter than keys.jwks_max_age, or verifiers meet keys that they do not know";
            return Err(ConfigError::at("keys.prepublish", problem));
        }
        Ok(())
    }
}

/// Either alphabet, padded or not: tools differ. The text itself stays out of the message.
fn parse_master_key(text: &str) -> Result<SecretBytes<32>, ConfigError> {
    let any_padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decode = |alphabet: &Alphabet| GeneralPurpose::new(alphabet, any_padding).decode(text);
    let bytes = decode(&STANDARD).or_else(|_| decode(&URL_SAFE)).map(Zeroizing::new);
    match bytes.as_ref().map(|bytes| <[u8; 32]>::try_from(bytes.as_slice())) {
        Ok(Ok(key)) => Ok(SecretBytes::new(key)),
        Ok(Err(_)) | Err(_) => Err(ConfigError::at(
            "keys.master_key",
            "must be 32 bytes in base64, or several with commas; make one with `openssl rand -base64 32`",
        )),
    }
}
