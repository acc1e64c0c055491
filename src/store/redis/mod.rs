//! Live sessions, announcements and counters of failed attempts on Redis: one server, Sentinel or Cluster; version 7.0 or later.
//!
//! * Each verb is one Lua script on one key, so it is atomic whatever the number of replicas. Time is Redis' `TIME`.
//! * `{prefix}:s:{<user id>}` is a hash of the user's sessions (`lua/record.lua` has the layout),
//!   `{prefix}:revocations` the stream, `{prefix}:counter:{n}` one counter a master; `{prefix}:t:…` counts failures and
//!   `{prefix}:r:…` remembers where right passwords came from.
//! * A call is made once. fred would repeat a script whose reply was lost; `settings` and `link` say how it is kept
//!   from that.
//! * Redis that cannot be reached is no reason not to start: calls answer `STORE_UNAVAILABLE` until it can. Redis that
//!   evicts keys is one.

mod breaker;
mod counters;
mod lane;
mod link;
mod message;
mod reader;
mod reply;
mod script;
mod sessions;
mod settings;
mod stream;
mod throttles;
mod watch;

use std::sync::Arc;

use fred::types::Builder;
use thiserror::Error;
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use self::link::Link;
pub use self::settings::Settings;
use self::settings::reconnection;
use crate::clock::{Clock, UnixMillis};
use crate::model::{self, ErrorKind};
use crate::secret::Entropy;

/// Why Redis cannot be used at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ConnectError {
    /// A setting cannot be read: a configuration error. Says which; holds no part of the URL.
    #[error("{0}")]
    Settings(String),
    /// A master must not be used: it would evict live sessions, or is too old. Says which and why.
    #[error("{0}")]
    Unfit(String),
}

/// What was found of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// Why it must not be used.
    pub unfit: Option<String>,
    /// A master that writes nothing to disk.
    pub volatile: Option<String>,
    /// What time it is there.
    pub time: UnixMillis,
}

/// What is kept in one deployment of Redis. Dropping it closes its connections.
#[derive(Debug)]
pub struct Redis {
    prefix: String,
    link: Arc<Link>,
    reader: Builder,
    entropy: Arc<dyn Entropy>,
    /// Ends with the store.
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Redis {
    /// Connects, and examines every master. Redis that cannot be reached is a warning, not an error.
    pub async fn connect(
        settings: Settings,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, ConnectError> {
        let mut builder = settings.builder().map_err(ConnectError::Settings)?;
        let reader = Settings::reader(&builder);
        let found = watch::probe(&reader, &settings).await;
        match &found {
            Ok(findings) => {
                if let Some(why) = &findings.unfit {
                    return Err(ConnectError::Unfit(why.clone()));
                }
                if let Some(server) = &findings.volatile {
                    warn!(%server, "Redis writes nothing to disk: a restart of it logs everybody out");
                }
            }
            Err(error) => warn!(%error, "Redis cannot be reached: log-ins and refreshes are unavailable until it can"),
        }
        builder.set_policy(reconnection());
        builder.with_config(|config| config.fail_fast = false);
        let pool = builder
            .build_pool(settings.pool.max(1))
            .map_err(|error| ConnectError::Settings(error.to_string()))?;
        let link = Arc::new(Link::new(&pool, settings.timeout, clock));
        let tasks = watch::keep(&link, settings.patience());
        if found.is_ok() {
            // It was there a moment ago: the first calls need not fail for want of another.
            let _ = tokio::time::timeout(settings.patience() * 3, link.becomes_fit()).await;
        }
        Ok(Self {
            prefix: settings.prefix,
            link,
            reader,
            entropy,
            _tasks: tasks,
        })
    }

    /// Looks at every master, without using any. `INVALID_REQUEST` if a setting cannot be read, `STORE_UNAVAILABLE` if
    /// one does not answer.
    pub async fn examine(settings: &Settings) -> model::Result<Examination> {
        let builder = settings
            .builder()
            .map_err(|why| model::Error::new(ErrorKind::InvalidRequest, why))?;
        let looked = watch::look(&Settings::reader(&builder), settings).await;
        looked.map_err(|error| model::Error::store_unavailable(format!("Redis: {error}")))
    }

    /// How many connections carry the scripts, and how many of them are open.
    #[must_use]
    pub fn connections(&self) -> (usize, usize) {
        self.link.connections()
    }
}
