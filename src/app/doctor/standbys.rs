//! The checks of the database server: do commits end, which standbys confirm them, and has it room for all connections?

use super::{Findings, State};
use crate::config::Storage;
use crate::store::KeyStore as _;
use crate::store::postgres::{CONNECTIONS_BESIDE_POOL, PostgresStore, Room, Standbys};

const STANDBYS: &str = "standbys";
const CONNECTIONS: &str = "connections";

/// A replica whose last sign of life is older does not count, in milliseconds.
const ALIVE_MILLIS: i64 = 60_000;

/// Whether commits end, and whether they go on without one of the standbys.
pub(super) async fn look(store: &PostgresStore, standbys: &Standbys, found: &mut Findings) {
    match store.commits_wait().await {
        Ok(Some(cause)) => found.add(STANDBYS, State::Bad, cause),
        Err(error) => found.add(STANDBYS, State::Unreachable, error.to_string()),
        Ok(None) => named(standbys, found),
    }
}

fn named(standbys: &Standbys, found: &mut Findings) {
    let Standbys { names, connected } = standbys;
    let Some(synchronous) = standbys.synchronous() else {
        if *connected == 0 {
            found.good(STANDBYS, "none is connected: the data is on one server");
        } else {
            let message = format!(
                "{connected} connected, and none is synchronous: the promotion of one may undo acknowledged revocations; set \
                 synchronous_standby_names = 'ANY 1 (…)' with the names of two or more"
            );
            found.add(STANDBYS, State::Doubtful, message);
        }
        return;
    };
    let present = usize::try_from(*connected).unwrap_or(0);
    let usable = synchronous.named.map_or(present, |named| named.min(present));
    if usable > synchronous.needed {
        let message = format!("{connected} connected; synchronous_standby_names = '{names}'");
        found.good(STANDBYS, message);
        return;
    }
    let message = format!(
        "{connected} connected, and a commit needs {} (synchronous_standby_names = '{names}'): if that one is lost, logins and \
         revocations fail until it is back; name two or more, and connect them: 'ANY 1 (first, second)'",
        synchronous.needed
    );
    found.add(STANDBYS, State::Doubtful, message);
}

/// Whether the server has a connection for each that the live replicas may open.
pub(super) async fn room(store: &PostgresStore, room: Room, storage: &Storage, found: &mut Findings) {
    let Ok(live) = store.live_replicas(ALIVE_MILLIS).await else {
        // The check of the key ring reports what the store refuses.
        return;
    };
    let each = i64::from(storage.database_pool.saturating_add(CONNECTIONS_BESIDE_POOL));
    let live = i64::try_from(live.len()).unwrap_or(i64::MAX);
    let (fit, connections) = (room.connections / each, room.connections);
    if fit < live.max(1) {
        let message = format!(
            "the server has {connections} for this role, and each of {live} live replicas opens up to {each} \
             (storage.database_pool and {CONNECTIONS_BESIDE_POOL} more): raise max_connections or lower storage.database_pool, or \
             calls fail under load and operators cannot log in"
        );
        found.add(CONNECTIONS, State::Doubtful, message);
    } else {
        let message = format!("the server has {connections} for this role, enough for {fit} replicas; {live} are live");
        found.good(CONNECTIONS, message);
    }
}
