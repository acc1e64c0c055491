//! Follows the stream on a connection of its own, because a blocking read would delay the scripts behind it.
//!
//! Each message names the id of the message before it, so a stream that was trimmed, deleted, restored or restarted
//! shows as a broken chain. While no message arrives, the end of the stream is compared with the last id that was read.
//! Every irregularity becomes a [`AnnouncementEvent::Gap`]; the listener then loads the revocations from the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::{Client, WithOptions};
use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::{ClientLike as _, StreamsInterface as _};
use fred::types::config::Options;
use fred::types::{Builder, Value};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::discovery::Found;
use super::message;
use super::reply::{Fields, Reply};
use super::settings::at;
use super::topology::Topology;
use crate::model::{Result, Revocation};
use crate::secret::{Entropy, random};
use crate::store::AnnouncementEvent;

/// How long a read waits for a message. A listener that was dropped is noticed after at most this time.
const BLOCK: Duration = Duration::from_secs(1);

/// How long a read may take before the connection counts as broken; longer than [`BLOCK`].
const READ_TIMEOUT: Duration = Duration::from_millis(2_500);

/// The most messages of one read.
const COUNT: u64 = 256;

/// The id before the first message.
const START: &str = "0-0";

/// The longest pause between two attempts to connect; up to as much jitter is added.
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The pause after the first failure; it doubles with each further one.
const MIN_PAUSE: Duration = Duration::from_micros(62_500);

pub(super) struct StreamReader {
    pub(super) builder: Builder,
    pub(super) found: Found,
    pub(super) stream: String,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// The listener was dropped, so reading ends.
struct ListenerDropped;

impl StreamReader {
    /// Reads until the listener is dropped, and connects again whenever the connection breaks.
    pub(super) async fn follow(self, listener: mpsc::Sender<AnnouncementEvent>) {
        let mut pause = MIN_PAUSE;
        while !listener.is_closed() {
            match self.connect_and_read(&listener).await {
                Ok(ListenerDropped) => return,
                Err((error, connected)) => {
                    debug!(%error, "lost the connection to the stream of revocations; connecting again");
                    pause = if connected {
                        MIN_PAUSE
                    } else {
                        (pause * 2).min(MAX_PAUSE)
                    };
                }
            }
            let jitter = u32::from(random::<1>(&*self.entropy)[0]);
            tokio::time::sleep(pause + pause * jitter / 256).await;
        }
    }

    /// Follows the stream on one connection. The error says whether the connection was established.
    async fn connect_and_read(
        &self,
        listener: &mpsc::Sender<AnnouncementEvent>,
    ) -> Result<ListenerDropped, (FredError, bool)> {
        let mut topology = self.found.topology.clone();
        let slot = fred::util::redis_keyslot(self.stream.as_bytes());
        let master =
            |topology: &Option<Arc<Topology>>| topology.as_ref()?.owner(slot).map(|owner| owner.server.clone());
        let server = master(&topology.borrow_and_update());
        let server = server.ok_or_else(|| (FredError::new(FredKind::Unknown, "no master is known"), false))?;
        let builder = server
            .as_ref()
            .map_or_else(|| self.builder.clone(), |server| at(&self.builder, server));
        let client = builder.build().map_err(|error| (error, false))?;
        let _task = AbortOnDropHandle::new(client.init().await.map_err(|error| (error, false))?);
        let client = client.with_options(&Options {
            timeout: Some(READ_TIMEOUT),
            ..Options::default()
        });
        tokio::select! {
            read = self.read(&client, listener) => {
                // The error may be MOVED.
                read.inspect_err(|_| self.found.ask_again()).map_err(|error| (error, true))
            }
            // Without this, a reader would stay on a master that was replaced until that one is demoted.
            Ok(_) = topology.wait_for(|found| master(found).is_some_and(|now| now != server)) => {
                Err((FredError::new(FredKind::Unknown, "another server has the stream now"), true))
            }
        }
    }

    async fn read(
        &self,
        client: &WithOptions<Client>,
        listener: &mpsc::Sender<AnnouncementEvent>,
    ) -> Result<ListenerDropped, FredError> {
        let mut last_id = self.last_generated_id(client).await?;
        // Whatever was announced before this id is in the database by now.
        if listener.send(AnnouncementEvent::Gap).await.is_err() {
            return Ok(ListenerDropped);
        }
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        while !listener.is_closed() {
            let value: Value = client
                .xread(Some(COUNT), Some(block), self.stream.as_str(), last_id.as_str())
                .await?;
            let (events, new_last_id) = if value.is_null() {
                let end = self.last_generated_id(client).await?;
                let gap = (end != last_id).then_some(AnnouncementEvent::Gap);
                (gap.into_iter().collect(), end)
            } else {
                parse(Reply(value), &last_id)
            };
            last_id = new_last_id;
            for event in events {
                match listener.try_send(event) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return Ok(ListenerDropped),
                    Err(TrySendError::Full(_)) => {
                        // The listener is too slow: events that do not fit into its buffer are dropped, and it gets a
                        // gap.
                        let Ok(permit) = listener.reserve().await else {
                            return Ok(ListenerDropped);
                        };
                        last_id = self.last_generated_id(client).await?;
                        permit.send(AnnouncementEvent::Gap);
                        break;
                    }
                }
            }
        }
        Ok(ListenerDropped)
    }

    /// The id of the newest message, even if that message was deleted since.
    async fn last_generated_id(&self, client: &WithOptions<Client>) -> Result<String, FredError> {
        let info: Result<HashMap<String, Value>, FredError> = client.xinfo_stream(&self.stream, false, None).await;
        let last = match info {
            Ok(info) => info.get("last-generated-id").and_then(Value::as_string),
            Err(error) if error.details() == "ERR no such key" => None,
            Err(error) => return Err(error),
        };
        Ok(last.unwrap_or_else(|| START.to_owned()))
    }
}

/// The events of one read, and the id of its last message. They include a gap if a message does not follow the one
/// before it or cannot be read.
fn parse(reply: Reply, last_id: &str) -> (Vec<AnnouncementEvent>, String) {
    let mut batch = Batch {
        last_id: last_id.to_owned(),
        revocations: Vec::new(),
        is_complete: true,
    };
    if let Err(error) = batch.add(reply) {
        debug!(%error, "the stream of revocations contains an entry that cannot be read");
        batch.is_complete = false;
    }
    let mut events = Vec::new();
    if !batch.revocations.is_empty() {
        events.push(AnnouncementEvent::Revocations(batch.revocations));
    }
    if !batch.is_complete {
        events.push(AnnouncementEvent::Gap);
    }
    (events, batch.last_id)
}

/// What one read returned.
struct Batch {
    last_id: String,
    revocations: Vec<Revocation>,
    is_complete: bool,
}

impl Batch {
    /// Adds a reply of the form `[[stream, [[id, [field, value, …]], …]]]`.
    fn add(&mut self, reply: Reply) -> Result<()> {
        let mut stream: Fields = reply.fields()?.next()?.fields()?;
        stream.next()?;
        for mut entry in stream.lists()? {
            let id = entry.text()?;
            let (mut follows, mut content) = (false, None);
            for (name, value) in entry.next()?.fields()?.into_pairs()? {
                match name.as_ref() {
                    b"after" => follows = value == self.last_id,
                    b"message" => content = message::decode(&value),
                    _ => {}
                }
            }
            self.is_complete &= follows && content.is_some();
            self.revocations.extend(content.into_iter().flatten());
            self.last_id = id;
        }
        Ok(())
    }
}
