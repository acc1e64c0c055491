//! Why a configuration was refused: one line that names the option and where it was set.

use std::fmt;

use super::layers::Source;

/// A refused configuration. Its `Display` is one line for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The option, for instance `tokens.leeway`; empty if it is none in particular.
    pub key: String,
    /// What is wrong, and what would be right.
    pub problem: String,
    /// Where the option was set, once that is known.
    pub source: Option<Source>,
}

impl ConfigError {
    /// A problem with one option.
    #[must_use]
    pub fn at(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            problem: problem.into(),
            source: None,
        }
    }

    /// A problem with no option in particular.
    #[must_use]
    pub fn new(problem: impl Into<String>) -> Self {
        Self::at("", problem)
    }

    /// Says where it was set.
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
        // A library's message may span lines; the promise is one.
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
