//! The error of an invalid configuration: one line that names the option and where it was set.

use std::fmt;

use super::layers::Source;

/// An invalid configuration. Its `Display` is one line and contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The option, for instance `tokens.leeway`; empty if the error concerns no single option.
    pub key: String,
    /// What is wrong, and which values are valid.
    pub problem: String,
    /// Where the option was set, if known.
    pub source: Option<Source>,
}

impl ConfigError {
    /// An error about one option.
    #[must_use]
    pub fn at(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
            source: None,
        }
    }

    /// An error that concerns no single option.
    #[must_use]
    pub fn new(problem: impl Into<String>) -> Self {
        Self::at("", problem)
    }

    /// Adds where the option was set.
    #[must_use]
    pub fn from_source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        // The message of a library may have several lines.
        for (index, line) in self.problem.lines().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { " " }, line.trim_end())?;
        }
        match &self.source {
            Some(source) => write!(f, " ({source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

impl From<config::ConfigError> for ConfigError {
    fn from(error: config::ConfigError) -> Self {
        use config::ConfigError as Foreign;
        match error {
            Foreign::Type {
                unexpected,
                expected,
                key,
                ..
            } => Self::at(
                key.unwrap_or_default(),
                format!("expected {expected}, found {unexpected}"),
            ),
            Foreign::At { error, key, .. } => {
                let inner = Self::from(*error);
                Self::at(key.unwrap_or_default(), inner.problem)
            }
            Foreign::NotFound(key) => Self::at(key, "is missing"),
            other @ (Foreign::Frozen
            | Foreign::PathParse { .. }
            | Foreign::FileParse { .. }
            | Foreign::Message(_)
            | Foreign::Foreign(_)
            | _) => Self::new(other.to_string()),
        }
    }
}
