//! `[agent]`: the upstream and the listener of `countersign agent`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::check::{self, CheckResult};
use super::error::ConfigError;
use super::listen::Listen;
use super::values::{optional, secret};
use crate::secret::SecretText;

/// The section `[agent]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Agent {
    /// The URL of the Countersign whose revocations the agent follows.
    #[serde(default, deserialize_with = "optional")]
    pub upstream: Option<String>,
    /// The address on which the agent listens.
    #[serde(default, deserialize_with = "optional")]
    pub listen: Option<Listen>,
    /// The client id with which the agent calls the upstream.
    #[serde(default, deserialize_with = "optional")]
    pub client_id: Option<String>,
    /// The secret of that client.
    #[serde(default, with = "secret")]
    pub client_secret: Option<SecretText>,
    /// PEM file with the authorities that the agent trusts at the upstream; unset means those of the system.
    #[serde(default, deserialize_with = "optional")]
    pub ca_file: Option<PathBuf>,
}

impl Agent {
    pub(super) fn check(&self) -> CheckResult {
        if let Some(upstream) = &self.upstream {
            check::http_url("agent.upstream", upstream)?;
        }
        check::pem_path("agent.ca_file", self.ca_file.as_deref())?;
        if let (Some(_), Some(upstream)) = (&self.ca_file, &self.upstream)
            && !upstream.starts_with("https://")
        {
            let problem = "needs an agent.upstream that begins with https://";
            return Err(ConfigError::at("agent.ca_file", problem));
        }
        if let Some(listen) = &self.listen
            && !listen.is_local()
        {
            let problem = format!("{listen} is not loopback, and the agent answers every caller that reaches it");
            return Err(ConfigError::at("agent.listen", problem));
        }
        match (&self.client_id, &self.client_secret) {
            (Some(_), None) => Err(ConfigError::at("agent.client_id", "needs agent.client_secret too")),
            (None, Some(_)) => Err(ConfigError::at("agent.client_secret", "needs agent.client_id too")),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }
}
