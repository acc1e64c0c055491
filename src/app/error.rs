//! Why the service did not start.

use std::fmt;

use crate::config::ConfigError;
use crate::model::{Error, ErrorKind};

/// Why the service did not start, or a subcommand could not open the store. One line for the operator.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong, or does not match the store.
    Config(String),
    /// A store or address cannot be reached or used.
    Unreachable(String),
    /// Anything else.
    Other(String),
}

impl StartError {
    /// The exit code (sysexits): 64 usage, 69 unavailable, else 1.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) => 64,
            Self::Unreachable(_) => 69,
            Self::Other(_) => 1,
        }
    }

    /// `what` cannot be reached or used, for the reason `why`.
    pub(super) fn unreachable(what: &str, why: impl fmt::Display) -> Self {
        Self::Unreachable(format!("{what}: {why}"))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(text) | Self::Unreachable(text) | Self::Other(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        if error.kind == ErrorKind::InvalidRequest {
            Self::Config(error.to_string())
        } else if error.kind == ErrorKind::StoreUnavailable {
            Self::Unreachable(error.to_string())
        } else {
            Self::Other(error.to_string())
        }
    }
}
