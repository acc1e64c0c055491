//! The checks of the stores: can they be reached, is the schema right, do their clocks agree with this machine's?

use std::sync::Arc;
use std::time::Duration;

use super::{Findings, SKEW, State, standbys};
use crate::clock::UnixMillis;
use crate::config::{Config, RedisUrl, Storage};
use crate::model::{Error, ErrorKind, Result};
use crate::store::keys::KeyRows;
use crate::store::postgres::{PostgresConfig, PostgresStore, TimelineReport};
use crate::store::redis::{Examination, Redis, Settings};
use crate::store::sqlite::Database;
use crate::store::{KeyStore as _, RedisNodes, SchemaState};

const DATABASE: &str = "database";
const REDIS: &str = "redis";
const CLOCK: &str = "clock";

/// The embedded store's key rows, if it can be read.
pub(super) async fn embedded(config: &Config, found: &mut Findings) -> Option<KeyRows> {
    let (folder, clock) = (config.storage.data_dir.clone(), found.clock.clone());
    let looked = tokio::task::spawn_blocking(move || Database::look(&folder, clock)).await;
    let looked = looked.map_err(Error::internal).and_then(|looked| looked);
    let (database, schema) = match looked {
        Ok(Some(looked)) => looked,
        Ok(None) => {
            found.good(DATABASE, "does not exist yet: the first `serve` creates it");
            return None;
        }
        Err(error) => {
            refused(DATABASE, &error, found);
            return None;
        }
    };
    if !fits(schema, found) {
        return None;
    }
    rows(database.load_keys().await, found)
}

/// The cluster's key rows, if they can be read.
pub(super) async fn clustered(config: &Config, found: &mut Findings) -> Option<KeyRows> {
    let storage = &config.storage;
    let (rows, remembered) = database(storage, found).await.unzip();
    redis(storage, &remembered.unwrap_or_default(), found).await;
    rows.flatten()
}

/// The key rows, and the nodes of Redis that replicas remember; none if the database cannot be read.
async fn database(storage: &Storage, found: &mut Findings) -> Option<(Option<KeyRows>, RedisNodes)> {
    let settings = PostgresConfig {
        // The configuration was checked.
        url: storage.database().ok().flatten()?,
        pool: 1,
        acquire_timeout: storage.acquire_timeout,
        statement_timeout: storage.statement_timeout,
    };
    let clock = Arc::clone(&found.clock);
    let looked = async {
        let store = PostgresStore::connect(&settings).await?;
        // Afterwards, because a host that does not answer delays the connection.
        let begun = clock.now();
        let look = store.look().await?;
        Ok((store, begun, look))
    };
    let (store, begun, look) = match looked.await {
        Ok(looked) => looked,
        Err(error) => {
            refused(DATABASE, &error, found);
            return None;
        }
    };
    skew("the database", begun, look.time, found);
    if let Some(obstacle) = look.obstacle {
        found.add(DATABASE, State::Bad, obstacle);
        return None;
    }
    if look.encoding != "UTF8" {
        let message = format!(
            "has the encoding {}, which cannot store every name: dump it and restore it into a database with UTF8",
            look.encoding
        );
        found.add(DATABASE, State::Doubtful, message);
    }
    timeline(&look.timeline, found);
    if !fits(look.schema, found) {
        return None;
    }
    standbys::look(&store, &look.standbys, found).await;
    if let Some(room) = look.room {
        standbys::room(&store, room, storage, found).await;
    }
    let remembered = match storage.redis().ok().flatten() {
        // Like `serve`, which does without where it may not read them.
        Some(url) => store
            .redis_nodes(&redis_settings(storage, url).deployment())
            .await
            .unwrap_or_default(),
        None => RedisNodes::default(),
    };
    Some((rows(store.load_keys().await, found), remembered))
}

/// How a promotion or restore of the database is noticed.
fn timeline(report: &TimelineReport, found: &mut Findings) {
    const ABOUT: &str = "timeline";
    let check = report.check.describe();
    match (&report.refusal, report.check.blind_spot()) {
        (Some(refusal), Some(blind_spot)) => {
            let message = format!(
                "a promotion or restore of the database is noticed by its {check}, because {refusal}; not noticed: {blind_spot}. For \
                 the strongest check: GRANT EXECUTE ON FUNCTION pg_current_wal_lsn(), pg_walfile_name(pg_lsn), \
                 pg_control_system() TO the role"
            );
            found.add(ABOUT, State::Doubtful, message);
        }
        _ => found.good(
            ABOUT,
            format!("a promotion or restore of the database is noticed by its {check}"),
        ),
    }
}

fn redis_settings(storage: &Storage, url: RedisUrl) -> Settings {
    Settings {
        url,
        prefix: storage.redis_prefix.clone(),
        pool: 1,
        timeout: storage.redis_timeout,
    }
}

async fn redis(storage: &Storage, remembered: &RedisNodes, found: &mut Findings) {
    let Ok(Some(url)) = storage.redis() else { return };
    let settings = redis_settings(storage, url);
    let begun = found.clock.now();
    match Redis::examine(&settings, remembered).await {
        Err(error) if error.kind == ErrorKind::InvalidRequest => {
            found.add(REDIS, State::Misconfigured, error.to_string());
        }
        Err(error) => refused(REDIS, &error, found),
        Ok(
            Examination {
                unusable: Some(why), ..
            }
            | Examination {
                unavailable: Some(why), ..
            },
        ) => found.add(REDIS, State::Bad, why),
        Ok(Examination {
            not_persistent, time, ..
        }) => {
            if let Some(time) = time {
                skew("Redis", begun, time, found);
            }
            match not_persistent {
                Some(server) => found.add(
                    REDIS,
                    State::Doubtful,
                    format!("{server} writes nothing to disk: a restart of it logs all users out (set appendonly yes)"),
                ),
                None => found.good(REDIS, "answers, evicts no keys and writes to disk"),
            }
        }
    }
}

/// Returns whether this program can read a store with this schema.
fn fits(schema: SchemaState, found: &mut Findings) -> bool {
    match schema {
        SchemaState::Current(version) => {
            found.good(DATABASE, format!("answers; schema {version}"));
            true
        }
        SchemaState::Older { at: 0, .. } => {
            found.good(
                DATABASE,
                "answers, and is empty: `migrate` or the first `serve` creates the schema",
            );
            false
        }
        SchemaState::Older { at, newest } => {
            let message = format!("schema {at} is older than this program's {newest}: `migrate` or `serve` updates it");
            found.add(DATABASE, State::Doubtful, message);
            false
        }
        SchemaState::Ahead { at, newest } => {
            found.good(
                DATABASE,
                format!("answers; schema {at} is newer than this program's {newest}, and compatible with it"),
            );
            true
        }
        SchemaState::Newer { at, newest } => {
            let message = format!("schema {at} is newer than this program's {newest}: run the newer version");
            found.add(DATABASE, State::Bad, message);
            false
        }
    }
}

fn rows(loaded: Result<KeyRows>, found: &mut Findings) -> Option<KeyRows> {
    loaded.inspect_err(|error| refused("key ring", error, found)).ok()
}

fn refused(about: &'static str, error: &Error, found: &mut Findings) {
    let state = if error.kind == ErrorKind::StoreUnavailable {
        State::Unreachable
    } else {
        State::Bad
    };
    found.add(about, state, error.to_string());
}

/// Compares this machine's clock with that of a store, which returned `time` between `begun` and now.
pub(super) fn skew(clock_name: &str, begun: UnixMillis, time: UnixMillis, found: &mut Findings) {
    let here = UnixMillis(begun.0.midpoint(found.clock.now().0));
    let apart = Duration::from_millis(here.0.abs_diff(time.0));
    let state = match apart {
        apart if apart > SKEW.1 => State::Bad,
        apart if apart > SKEW.0 => State::Doubtful,
        _ => State::Good,
    };
    let message = format!("{:.1} s from the clock of {clock_name}", apart.as_secs_f64());
    found.add(CLOCK, state, message);
}
