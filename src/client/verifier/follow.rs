//! Following the feed of revocations and keys, for ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tonic::{Code, Status};

use super::{Fresh, Shared};
use crate::clock::UnixMillis;
use crate::keys::verifying::VerifyingKeys;
use crate::model::{Error, KeyId};
use crate::proto::convert;
use crate::proto::watch_revocations_response::Message;
use crate::proto::{Heartbeat, KeySet, WatchRevocationsResponse};
use crate::revocation::Index;
use crate::secret::random;

/// The pause before the feed is taken up again; doubles while that fails.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A heartbeat comes each second: a stream that is silent much longer is a connection that nobody told us is dead.
const SILENCE: Duration = Duration::from_secs(10);
/// So many heartbeats apart, what concerns no token any more is forgotten.
const SWEEP_EVERY: u32 = 60;

/// Follows the feed for ever: takes it up again where it broke off, with a pause that grows while that fails.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut place = Place::default();
    let mut pause = FIRST_PAUSE;
    loop {
        place.moved = false;
        if let Err(status) = follow_once(&shared, &mut place).await {
            tracing::debug!(code = ?status.code(), "the feed of revocations broke off");
            if status.code() == Code::InvalidArgument {
                place.resume.clear();
            }
        }
        if place.moved {
            pause = FIRST_PAUSE;
        }
        let unit = f64::from(random::<1>(shared.client.entropy())[0]) / 255.0;
        tokio::time::sleep(pause.mul_f64(0.5 + unit / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Where a follower stands.
#[derive(Default)]
struct Place {
    /// What to resume from.
    resume: String,
    /// Whether this connection has told of anything new.
    moved: bool,
}

async fn follow_once(shared: &Shared, place: &mut Place) -> Result<(), Status> {
    let mut stream = shared.client.watch(place.resume.clone()).await?;
    let mut building: Option<Index> = None;
    let mut beats = 0_u32;
    loop {
        let next = tokio::time::timeout(SILENCE, stream.message()).await;
        let Some(WatchRevocationsResponse { message }) =
            next.map_err(|_| Status::unavailable("the feed fell silent"))??
        else {
            return Ok(());
        };
        match message {
            Some(Message::Keys(keys)) => match verifying(&keys) {
                Ok(keys) => {
                    // In this order: what is verified under the old number is forgotten, never the other way round.
                    shared.keys.store(Arc::new(keys));
                    shared.ring.fetch_add(1, Ordering::AcqRel);
                }
                Err(error) => tracing::warn!(%error, "the service's key set cannot be read"),
            },
            Some(Message::Snapshot(part)) => {
                let index = building.get_or_insert_with(Index::new);
                let rows = part.revocations.iter();
                for revocation in rows.filter_map(|row| convert::revocation::revocation(row).ok()) {
                    index.insert(&revocation);
                }
                if part.last {
                    shared.index.store(Arc::new(building.take().unwrap_or_default()));
                }
            }
            Some(Message::Event(event)) => {
                if let Ok(revocation) = convert::revocation::revocation(&event) {
                    shared.index.load().insert(&revocation);
                }
            }
            Some(Message::Heartbeat(heartbeat)) => {
                let fresh = fresh(shared, &heartbeat)?;
                beats += 1;
                if beats.is_multiple_of(SWEEP_EVERY) {
                    shared.index.load().sweep(fresh.as_of);
                }
                shared.fresh.store(Some(Arc::new(fresh)));
                shared.ready.send_replace(true);
                place.resume = heartbeat.resume_token;
                place.moved = true;
            }
            None => {}
        }
    }
}

/// The keys of a set, with what became of each: one that is revoked is told from one that was never known.
fn verifying(set: &KeySet) -> Result<VerifyingKeys, Error> {
    let mut keys = VerifyingKeys::from_jwks(&set.jwks_json)?;
    for key in &set.keys {
        let Some(state) = convert::key::state(key.state()) else {
            continue;
        };
        let retired = key.retire_time.as_ref();
        let retired = retired.map(|at| convert::time::moment(at, "retire_time")).transpose()?;
        keys.note(&KeyId::parse(&key.key_id, "key_id")?, state, retired);
    }
    Ok(keys)
}

fn fresh(shared: &Shared, heartbeat: &Heartbeat) -> Result<Fresh, Status> {
    let at = |time: Option<&prost_types::Timestamp>| -> Result<UnixMillis, Status> {
        let time = time.ok_or_else(|| Status::internal("a heartbeat without a time"))?;
        convert::time::moment(time, "heartbeat").map_err(|error| Status::internal(error.to_string()))
    };
    let as_of = at(heartbeat.as_of.as_ref())?;
    let clock = shared.client.clock();
    Ok(Fresh {
        as_of,
        age: at(heartbeat.now.as_ref())?.since(as_of),
        came: clock.monotonic(),
        came_wall: clock.now(),
    })
}
