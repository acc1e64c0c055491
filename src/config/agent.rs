//! `[agent]`: what `countersign agent` follows, and where it answers.

use serde::{Deserialize, Serialize};

use super::check::{self, Checked};
use super::error::ConfigError;
use super::listen::Listen;
use super::values::{optional, secret};
use crate::secret::SecretText;

/// `[agent]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Agent {
    /// The Countersign that it follows.
    #[serde(default, deserialize_with = "optional")]
    pub upstream: Option<String>,
    /// Where it answers.
    #[serde(default, deserialize_with = "optional")]
    pub listen: Option<Listen>,
    /// Who it is to the upstream.
    #[serde(default, deserialize_with = "optional")]
    pub client_id: Option<String>,
    /// Likewise.
    #[serde(default, with = "secret")]
    pub client_secret: Option<SecretText>,
}

impl Agent {
    pub(super) fn check(&self) -> Checked {
        if let Some(upstream) = &self.upstream {
            check::http_url("agent.upstream", upstream)?;
        }
        if let Some(listen) = &self.listen
            && !listen.is_local()
        {
            let problem = format!("{listen} is not loopback: whoever reaches the agent may ask it");
            return Err(ConfigError::at("agent.listen", problem));
        }
        match (&self.client_id, &self.client_secret) {
            (Some(_), None) => Err(ConfigError::at("agent.client_id", "needs agent.client_secret too")),
            (None, Some(_)) => Err(ConfigError::at("agent.client_secret", "needs agent.client_id too")),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }
}
