//! The task that follows the service's feed of revocations and keys.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};

use super::trust::{FollowedTrust, Freshness};
use crate::client::{Client, OutageLog};
use crate::clock::{ClockReading, UnixMillis};
use crate::keys::verifying::VerifyingKeys;
use crate::model::{Error, KeyId, Revocation};
use crate::proto::watch_revocations_response::Message;
use crate::proto::{self, convert};
use crate::proto::{Heartbeat, KeySet, WatchRevocationsResponse};
use crate::revocation::Index;
use crate::secret::random;

/// The first pause before the feed is opened again; it doubles with each failure.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A heartbeat arrives each second: a stream that is silent for this long has lost its connection unnoticed.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many heartbeats lie between two sweeps of the index.
const SWEEP_EVERY: u32 = 60;

/// Follows the feed for ever: opens it again where it broke off, after a pause that grows with each failure.
pub(super) async fn follow(client: Client, trust: Arc<FollowedTrust>) {
    let mut position = Position::default();
    let mut pause = FIRST_PAUSE;
    let effect = "tokens are validated with the revocations that are known, until these are too old";
    let mut outage = OutageLog::new(client.address().to_owned(), effect);
    loop {
        position.advanced = false;
        if let Err(status) = follow_once(&client, &trust, &mut position, &mut outage).await {
            tracing::debug!(code = ?status.code(), "the feed of revocations broke off");
            if status.code() == Code::InvalidArgument {
                position.resume_token.clear();
            }
            // A feed that was followed breaks off whenever a replica is replaced. Only the next failure is an outage.
            if !position.advanced {
                outage.lost(&status, trust.clock.monotonic());
            }
        }
        if position.advanced || trust.pauses.is_recent(trust.clock.read()) {
            pause = FIRST_PAUSE;
        }
        let unit = f64::from(random::<1>(client.entropy())[0]) / 255.0;
        tokio::time::sleep(pause.mul_f64(0.5 + unit / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How far the feed was read.
#[derive(Default)]
struct Position {
    resume_token: String,
    /// Whether a heartbeat arrived on this connection.
    advanced: bool,
}

impl Position {
    /// Whether a new stream can go on from here. If not, it begins with a snapshot.
    fn is_known(&self) -> bool {
        !self.resume_token.is_empty()
    }
}

async fn follow_once(
    client: &Client,
    trust: &FollowedTrust,
    position: &mut Position,
    outage: &mut OutageLog,
) -> Result<(), Status> {
    let now = trust.clock.read();
    let (pauses, delays) = (trust.pauses.tick(now), trust.delays.tick(now));
    let opened = client.watch(position.resume_token.clone()).await;
    if opened.is_err() {
        // Nothing can be asked after the last pause: some time after it the age of the last heartbeat decides.
        trust.pauses.give_up(pauses, now);
    }
    let mut stream = opened?;
    let mut snapshot: Option<Index> = None;
    let mut heartbeats = 0_u32;
    loop {
        // A delay ends the stream, but not before a snapshot is complete: a process that has many would never have one.
        let next = tokio::select! {
            next = tokio::time::timeout(SILENCE_TIMEOUT, stream.message()) => next,
            () = trust.pauses.until_noticed_after(pauses), if position.is_known() && snapshot.is_none() => return Ok(()),
            () = trust.delays.until_noticed_after(delays), if position.is_known() && snapshot.is_none() => return Ok(()),
        };
        let now = trust.clock.read();
        // The message may have waited in the socket for as long as this process stood still or was too busy.
        let is_late = trust.pauses.tick(now) > pauses || trust.delays.tick(now) > delays;
        if is_late && position.is_known() && snapshot.is_none() {
            return Ok(());
        }
        let Some(WatchRevocationsResponse { message }) =
            next.map_err(|_| Status::unavailable("the feed fell silent"))??
        else {
            return Ok(());
        };
        match message {
            Some(Message::Keys(keys)) => match verifying(&keys) {
                Ok(keys) => trust.set_keys(keys),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the service's key set; the previous one stays in use");
                }
            },
            Some(Message::Snapshot(part)) => {
                let index = snapshot.get_or_insert_with(Index::new);
                for row in &part.revocations {
                    index.insert(&readable(row, trust)?);
                }
                if part.last {
                    trust.index.store(Arc::new(snapshot.take().unwrap_or_default()));
                }
            }
            Some(Message::Event(event)) => {
                trust.index.load().insert(&readable(&event, trust)?);
            }
            Some(Message::Heartbeat(heartbeat)) => {
                let freshness = freshness(now, &heartbeat)?;
                position.resume_token = heartbeat.resume_token;
                position.advanced = true;
                if is_late {
                    // The snapshot is complete, and its age is not known: the next stream goes on from here.
                    return Ok(());
                }
                heartbeats += 1;
                if heartbeats.is_multiple_of(SWEEP_EVERY) {
                    trust.index.load().sweep(freshness.as_of);
                }
                trust.set_freshness(freshness);
                trust.pauses.settle(pauses);
                outage.answered(trust.clock.monotonic());
            }
            None => {}
        }
    }
}

/// A revocation of the feed. One that cannot be read, for instance of a level that a later version has added, may revoke any token:
/// then nothing is answered from memory, and the service is asked about each token.
fn readable(row: &proto::Revocation, trust: &FollowedTrust) -> Result<Revocation, Status> {
    convert::revocation::revocation(row).map_err(|error| {
        if trust.forget_freshness() {
            tracing::error!(
                %error,
                "a revocation of the service cannot be read; the service is asked about every token until this process has the \
                 version of the service"
            );
        }
        Status::internal(format!(
            "a revocation that this version cannot read ({error}); update it to the version of the service"
        ))
    })
}

/// The keys of a set with the state of each, so that a revoked key differs from an unknown one.
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

/// `now`: when the heartbeat arrived. It was read before anything could delay this process.
fn freshness(now: ClockReading, heartbeat: &Heartbeat) -> Result<Freshness, Status> {
    let at = |time: Option<&prost_types::Timestamp>| -> Result<UnixMillis, Status> {
        let time = time.ok_or_else(|| Status::internal("a heartbeat without a time"))?;
        convert::time::moment(time, "heartbeat").map_err(|error| Status::internal(error.to_string()))
    };
    let as_of = at(heartbeat.as_of.as_ref())?;
    Ok(Freshness {
        as_of,
        age_on_arrival: at(heartbeat.now.as_ref())?.since(as_of),
        arrived: now,
    })
}
