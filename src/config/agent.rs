//! `[agent]`: what `countersign agent` follows, and where it answers.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize, Serializer};

use super::check::{self, Checked};
use super::error::ConfigError;
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
    pub listen: Option<AgentListen>,
    /// Who it is to the upstream.
    #[serde(default, deserialize_with = "optional")]
    pub client_id: Option<String>,
    /// Likewise.
    #[serde(default, with = "secret")]
    pub client_secret: Option<SecretText>,
}

/// An address, or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentListen {
    /// On loopback.
    Tcp(SocketAddr),
    /// A socket that only its owner may use.
    Unix(PathBuf),
}

impl FromStr for AgentListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                "" => Err("unix: needs a path".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let wrong = |_| format!("{text:?} is neither ADDRESS:PORT nor unix:PATH");
        text.parse().map(Self::Tcp).map_err(wrong)
    }
}

impl fmt::Display for AgentListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Serialize for AgentListen {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl Agent {
    pub(super) fn check(&self) -> Checked {
        if let Some(upstream) = &self.upstream {
            check::http_url("agent.upstream", upstream)?;
        }
        if let Some(AgentListen::Tcp(address)) = &self.listen
            && !address.ip().is_loopback()
        {
            let problem = format!("{address} is not loopback: whoever reaches the agent may ask it");
            return Err(ConfigError::at("agent.listen", problem));
        }
        match (&self.client_id, &self.client_secret) {
            (Some(_), None) => Err(ConfigError::at("agent.client_id", "needs agent.client_secret too")),
            (None, Some(_)) => Err(ConfigError::at("agent.client_secret", "needs agent.client_id too")),
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }
}
