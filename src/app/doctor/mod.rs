//! The checks of `countersign doctor`: can the service start with this configuration and these stores? They only read:
//! they create no schema, no key and no folder. With `--server` the checks of a running server, from the outside.

mod files;
mod keys;
mod listeners;
mod server;
mod server_tls;
mod side_port;
mod standbys;
mod stores;

pub use server::{ServerTarget, examine_server};

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Mode};
use crate::model::CallerScope;

/// The clock differences above which a finding is [`State::Doubtful`], and [`State::Bad`]. The second is the largest leeway
/// of tokens.
const SKEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The checked part, for instance `database`.
    pub about: &'static str,
    /// The state of that part.
    pub state: State,
    /// The explanation for the operator. It contains no secret.
    pub message: String,
}

/// The state of a checked part, from good to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Everything is right.
    Good,
    /// It works, but the operator should look at it.
    Doubtful,
    /// It does not work, or is unsafe.
    Bad,
    /// It cannot be reached.
    Unreachable,
    /// The configuration is wrong.
    Misconfigured,
}

impl State {
    /// The exit code (sysexits): 0 if the service can start, 64 for the configuration, 69 for an unreachable store, else 1.
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

/// The findings so far.
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

/// Runs all checks, in the order in which a start needs the parts.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut found = Findings {
        clock: Arc::new(SystemClock::new()),
        list: Vec::new(),
    };
    configuration(config, &mut found);
    logins(config, &mut found);
    listeners::look(config, &mut found).await;
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

/// Whether the limits on failed logins can tell the users behind a web tier apart.
fn logins(config: &Config, found: &mut Findings) {
    const ABOUT: &str = "login limits";
    let anonymous = config.server.anonymous_scopes();
    if !config.throttle.enabled {
        found.add(
            ABOUT,
            State::Doubtful,
            "throttle.enabled is false: passwords can be guessed without a limit",
        );
    } else if anonymous.iter().any(|scope| scope == CallerScope::Issue.as_str()) {
        let message = "callers without a token may log users in, and all users of such a caller count as one source: a web \
                       tier should call as a client with countersign:issue and state context.ip_address";
        let state = if config.server.is_loopback() {
            State::Good
        } else {
            State::Doubtful
        };
        found.add(ABOUT, state, message);
    } else {
        found.good(
            ABOUT,
            "users count by the address that the caller's client states, else by the caller's own",
        );
    }
}

fn configuration(config: &Config, found: &mut Findings) {
    match config.check_exposure() {
        Ok(()) => found.good("configuration", config.storage.describe()),
        Err(error) => found.add("configuration", State::Misconfigured, error.to_string()),
    }
    let issuer = &config.tokens.issuer;
    let local = config.server.is_loopback();
    let (state, message) = if !config.is_set("tokens.issuer") && !local {
        (
            State::Doubtful,
            format!(
                "{issuer} is the default: set tokens.issuer to the URL that verifiers know before the first token is issued"
            ),
        )
    } else if issuer.starts_with("http://") && !local {
        (
            State::Doubtful,
            format!("{issuer}: verifiers that fetch its metadata (RFC 8414) require https"),
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
    let gateway = &config.gateway;
    if gateway.cookies {
        match &gateway.client_id {
            Some(client) => found.good("cookies", format!("of the client {client}")),
            None => found.add(
                "cookies",
                State::Doubtful,
                "cookies with tokens of every client are accepted and renewed: set gateway.client_id to the client of the web application",
            ),
        }
    }
}
