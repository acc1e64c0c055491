//! Whether this configuration and these stores would serve: what `countersign doctor` tells. It reads, and writes
//! nothing: no schema, no key, no folder.

mod files;
mod keys;
mod stores;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Mode};

/// How far apart two clocks may be before it is worth a word, and before it is wrong: the leeway of tokens.
const SKEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub state: State,
    /// In words, for the operator. Holds no secret.
    pub message: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// As it should be.
    Good,
    /// It works, and is worth a look.
    Doubtful,
    /// It is wrong.
    Bad,
    /// It cannot be reached.
    Unreachable,
    /// The configuration is wrong.
    Misconfigured,
}

impl State {
    /// The exit code (sysexits): 0 where it serves, 64 configuration, 69 unreachable, else 1.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Good | Self::Doubtful => 0,
            Self::Bad => 1,
            Self::Unreachable => 69,
            Self::Misconfigured => 64,
        }
    }
}

/// Findings as they come.
struct Findings {
    clock: Arc<dyn Clock>,
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, about: &'static str, state: State, message: impl Into<String>) {
        let message = message.into();
        self.list.push(Finding { about, state, message });
    }

    fn good(&mut self, about: &'static str, message: impl Into<String>) {
        self.add(about, State::Good, message);
    }
}

/// Looks at everything, in the order in which a start would.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut found = Findings {
        clock: Arc::new(SystemClock::new()),
        list: Vec::new(),
    };
    configuration(config, &mut found);
    files::certificates(&config.server.tls, &mut found);
    let rows = match config.mode() {
        Mode::Embedded => {
            files::data_folder(&config.storage.data_dir, &mut found);
            stores::embedded(config, &mut found).await
        }
        Mode::Clustered => stores::clustered(config, &mut found).await,
    };
    keys::look(config, rows, &mut found);
    found.list
}

fn configuration(config: &Config, found: &mut Findings) {
    match config.check_exposure() {
        Ok(()) => found.good("configuration", format!("{:?}", config.mode()).to_lowercase()),
        Err(error) => found.add("configuration", State::Misconfigured, error.to_string()),
    }
    let issuer = &config.tokens.issuer;
    let local = config.server.is_loopback();
    let (state, message) = if !config.is_set("tokens.issuer") && !local {
        (
            State::Doubtful,
            format!("{issuer} is the default: set tokens.issuer to the URL that verifiers know before tokens are out"),
        )
    } else if issuer.starts_with("http://") && !local {
        (
            State::Doubtful,
            format!("{issuer}: verifiers that look its metadata up (RFC 8414) want https"),
        )
    } else if issuer.ends_with('/') {
        (
            State::Doubtful,
            format!("{issuer} ends with a slash: verifiers compare it byte for byte"),
        )
    } else {
        (State::Good, issuer.clone())
    };
    found.add("issuer", state, message);
}
