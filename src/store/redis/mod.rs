//! The Redis store: live sessions, announcements and counters of failed attempts, on one server, Sentinel or Cluster of
//! version 7.0 or later.
//!
//! * Each operation is one Lua script on one key, so it is atomic however many replicas run. Time is `TIME` of Redis.
//! * `{prefix}:s:{<user id>}` is a hash of the user's sessions (`lua/record.lua` has the layout),
//!   `{prefix}:revocations` the stream, `{prefix}:sides` the database server of each replica, `{prefix}:counter:{n}` the counter of one
//!   master. `{prefix}:t:…` counts failed
//!   attempts, and `{prefix}:r:…` remembers the sources from which an account logged in.
//! * A call is made once. By default fred repeats a script whose reply was lost; `settings` and `client` prevent that.
//! * If Redis cannot be reached, the process starts all the same: calls answer `STORE_UNAVAILABLE` until it can be. If
//!   Redis evicts keys, the process does not start.

mod acl;
mod breaker;
mod client;
mod connection;
mod counters;
mod discovery;
mod explain;
mod failure;
mod health;
mod login;
mod look;
mod members;
mod message;
mod node;
mod reply;
mod script;
mod server_time;
mod sessions;
mod settings;
mod sides;
mod stream;
mod stream_reader;
mod throttles;
mod tls;
mod topology;
mod usage;

use std::sync::Arc;

use fred::types::Builder;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

pub use self::acl::ACL_RULES;
use self::client::RedisClient;
use self::discovery::Found;
use self::login::Login;
use self::members::Members;
pub use self::script::{Args, RunScripts, Script};
pub use self::sessions::SessionScripts;
pub use self::settings::Settings;
pub use self::usage::MemoryUsage;
use crate::clock::{Clock, UnixMillis};
use crate::config::RedisUrl;
use crate::model::{self, ErrorKind};
use crate::secret::Entropy;
use crate::store::RedisNodes;

/// Why Redis cannot be used at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConnectError {
    /// A setting is invalid. The message names it and contains no part of the URL.
    #[error("{0}")]
    Settings(String),
    /// A master must not be used, because it would evict live sessions or is too old. The message names it and the
    /// reason.
    #[error("{0}")]
    Unusable(String),
}

/// The state of a deployment of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// Why it must not be used, if it must not.
    pub unusable: Option<String>,
    /// Why it cannot be used at the moment, if it cannot.
    pub unavailable: Option<String>,
    /// A master that writes nothing to disk, if there is one.
    pub not_persistent: Option<String>,
    /// The time of one of its servers; none if it must not be used.
    pub time: Option<UnixMillis>,
}

/// A store in one deployment of Redis. Dropping it closes its connections.
#[derive(Debug)]
pub struct Redis {
    settings: Settings,
    login: Arc<Login>,
    prefix: String,
    client: Arc<RedisClient>,
    /// Builds the connections that read the stream.
    reader: Builder,
    entropy: Arc<dyn Entropy>,
    /// Keep the connections open; end with the store.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Redis {
    /// Connects, and checks every master. A Redis that cannot be reached is a warning, not an error.
    pub async fn connect(
        settings: Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ConnectError> {
        Self::connect_with(settings, &RedisNodes::default(), clock, entropy).await
    }

    /// The same. `remembered` are Sentinels or cluster nodes that are asked if none of the URL answers.
    pub async fn connect_with(
        settings: Settings,
        remembered: &RedisNodes,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ConnectError> {
        let remembered = members::remembered(remembered);
        let login = Arc::new(Login::new(&settings.url));
        let builder = settings.builder(&login).map_err(ConnectError::Settings)?;
        let examiner = settings.examiner(&builder, &login);
        let checks = examiner.examine(&remembered).await;
        match &checks {
            Ok(checks) => {
                if let Some(reason) = &checks.unusable {
                    return Err(ConnectError::Unusable(reason.clone()));
                }
                if let Some(server) = &checks.not_persistent {
                    warn!(%server, "Redis writes nothing to disk: if it restarts, all users are logged out");
                }
            }
            Err(failed) if acl::is_refusal(&failed.error) => {
                return Err(ConnectError::Unusable(explain::explain(&examiner, failed).await));
            }
            // The log of outages tells of it, once the client is made.
            Err(_) => {}
        }
        let mut tasks = Vec::new();
        let found = match examiner.finder.clone() {
            None => Found::single(),
            Some(finder) => {
                let (found, following) = finder.follow(remembered);
                tasks.push(following);
                found
            }
        };
        let client = Arc::new_cyclic(|client| {
            let outage = health::outage_log(client.clone(), &examiner);
            RedisClient::new(settings.clone(), builder, clock, found, outage)
        });
        tasks.push(client.follow());
        match &checks {
            Ok(checks) => checks
                .unavailable
                .iter()
                .for_each(|reason| client.outage.lost(reason.clone())),
            Err(failed) => client.outage.lost(explain::explain(&examiner, failed).await),
        }
        if checks.is_ok_and(|checks| checks.unavailable.is_none()) {
            // Redis was reachable a moment ago: wait for the connections, so that the first calls do not fail.
            let _ = tokio::time::timeout(settings.connect_timeout() * 3, client.wait_until_usable()).await;
        }
        Ok(Self {
            prefix: settings.prefix.clone(),
            settings,
            login,
            client,
            reader: examiner.builder,
            entropy,
            _tasks: tasks,
        })
    }

    /// Examines every master without using any. `remembered` nodes are asked like those of [`Redis::connect_with`].
    /// `INVALID_REQUEST` if a setting is invalid, `STORE_UNAVAILABLE` if a master does not answer.
    pub async fn examine(settings: &Settings, remembered: &RedisNodes) -> model::Result<Examination> {
        Self::examine_with(settings, &members::remembered(remembered)).await
    }

    async fn examine_with(settings: &Settings, known: &Members) -> model::Result<Examination> {
        let login = Arc::new(Login::new(&settings.url));
        let builder = settings.builder(&login);
        let builder = builder.map_err(|problem| model::Error::new(ErrorKind::InvalidRequest, problem))?;
        let examiner = settings.examiner(&builder, &login);
        match examiner.examine(known).await {
            Ok(examination) => Ok(examination),
            Err(failed) => Err(model::Error::new(
                ErrorKind::StoreUnavailable,
                explain::explain(&examiner, &failed).await,
            )),
        }
    }

    /// Logs in with the user and the password of this URL at each new connection, once that succeeds; open connections are not
    /// affected. `INVALID_REQUEST` if the URL leads to other servers, `STORE_UNAVAILABLE` if the login does not succeed; then nothing
    /// changes.
    pub async fn change_login(&self, url: &RedisUrl) -> model::Result<()> {
        if !self.settings.url.differs_in_login_only(url) {
            let problem =
                "only the user and the password can change while the service runs; restart it to use other servers";
            return Err(model::Error::new(ErrorKind::InvalidRequest, problem));
        }
        if !self.settings.has_password() || url.login.password.is_none() {
            let problem = "a password cannot be added or left out while the service runs; restart it";
            return Err(model::Error::new(ErrorKind::InvalidRequest, problem));
        }
        let settings = Settings {
            url: url.clone(),
            ..self.settings.clone()
        };
        let known = self.client.found.nodes.borrow().clone();
        Self::examine_with(&settings, &known).await?;
        self.login.change(url);
        Ok(())
    }

    /// The Sentinels or cluster nodes that are asked: those of the URL and those that they named. Empty for one server, and until a
    /// node has answered.
    #[must_use]
    pub fn nodes(&self) -> RedisNodes {
        let found = &self.client.found;
        if found.topology.borrow().is_none() {
            return RedisNodes::default();
        }
        let nodes = found.nodes.borrow();
        RedisNodes {
            addresses: nodes.servers.iter().map(ToString::to_string).collect(),
            ids: nodes.ids.iter().cloned().collect(),
        }
    }

    /// How many connections carry the scripts, and how many of them are open.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.client.connection_counts()
    }
}
