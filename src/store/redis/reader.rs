//! Follows the stream on a connection of its own: a blocked read must not stand before anybody's script.
//!
//! Each message names the one before it, so a trimmed, deleted, restored or restarted stream shows as a broken chain;
//! while nothing comes, the end of the stream is compared with the place that was reached. Whatever is amiss is a
//! [`Heard::Gap`], after which the durable record is asked.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::{ClientLike as _, StreamsInterface as _};
use fred::types::config::Options;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::message;
use super::reply::{Reply, Row};
use crate::model::{Result, Revocation};
use crate::secret::{Entropy, random};
use crate::store::Heard;

/// How long a read waits for a message. The listener's departure is noticed as late.
const BLOCK: Duration = Duration::from_secs(1);

/// How long a read may take: an answer that is this much late will not come.
const READ_TIMEOUT: Duration = Duration::from_millis(2_500);

/// How many messages a read takes.
const COUNT: u64 = 256;

/// The place before everything.
const START: &str = "0-0";

/// Between two attempts to connect, up to this and as much jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    pub(super) builder: Builder,
    pub(super) stream: String,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// The listener is gone.
struct Gone;

impl Reader {
    /// Reads until the listener is gone, over as many connections as that takes.
    pub(super) async fn follow(self, listener: mpsc::Sender<Heard>) {
        let mut pause = LONGEST_PAUSE / 16;
        while !listener.is_closed() {
            match self.read(&listener).await {
                Ok(Gone) => return,
                Err((error, connected)) => {
                    debug!(%error, "the stream of revocations was lost; it is followed anew");
                    pause = if connected {
                        LONGEST_PAUSE / 16
                    } else {
                        (pause * 2).min(LONGEST_PAUSE)
                    };
                }
            }
            let jitter = u32::from(random::<1>(&*self.entropy)[0]);
            tokio::time::sleep(pause + pause * jitter / 256).await;
        }
    }

    /// Follows the stream on one connection. The error says whether there was one.
    async fn read(&self, listener: &mpsc::Sender<Heard>) -> Result<Gone, (FredError, bool)> {
        let client = self.builder.build().map_err(|error| (error, false))?;
        let _task = AbortOnDropHandle::new(client.init().await.map_err(|error| (error, false))?);
        self.read_on(&client, listener).await.map_err(|error| (error, true))
    }

    async fn read_on(&self, client: &Client, listener: &mpsc::Sender<Heard>) -> Result<Gone, FredError> {
        let mut place = self.end(client).await?;
        // What was announced before this place is in the durable record by now.
        if listener.send(Heard::Gap).await.is_err() {
            return Ok(Gone);
        }
        let reading = client.with_options(&Options {
            timeout: Some(READ_TIMEOUT),
            ..Options::default()
        });
        let block = u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX);
        while !listener.is_closed() {
            let value: Value = reading
                .xread(Some(COUNT), Some(block), self.stream.as_str(), place.as_str())
                .await?;
            let (heard, reached) = match Reply::from(value) {
                Reply::Nil => {
                    let end = self.end(client).await?;
                    let missed = (end != place).then_some(Heard::Gap);
                    (missed.into_iter().collect(), end)
                }
                reply @ (Reply::Int(_) | Reply::Bytes(_) | Reply::List(_)) => understand(reply, &place),
            };
            place = reached;
            for heard in heard {
                match listener.try_send(heard) {
                    Ok(()) => {}
                    Err(TrySendError::Closed(_)) => return Ok(Gone),
                    Err(TrySendError::Full(_)) => {
                        // Too slow a listener: what it has no room for is lost to it, and it is told so.
                        let Ok(room) = listener.reserve().await else {
                            return Ok(Gone);
                        };
                        place = self.end(client).await?;
                        room.send(Heard::Gap);
                        break;
                    }
                }
            }
        }
        Ok(Gone)
    }

    /// The id that was given last, whether or not its message is still there.
    async fn end(&self, client: &Client) -> Result<String, FredError> {
        let info = CustomCommand::new_static(
            "XINFO",
            ClusterHash::Custom(fred::util::redis_keyslot(self.stream.as_bytes())),
            false,
        );
        let options = Options {
            timeout: Some(READ_TIMEOUT),
            ..Options::default()
        };
        let client = client.with_options(&options);
        let info: Result<Value, FredError> = client.custom(info, vec!["STREAM", self.stream.as_str()]).await;
        let fields = match info {
            Ok(value) => value.into_array(),
            Err(error) if error.details() == "ERR no such key" => return Ok(START.to_owned()),
            Err(error) => return Err(error),
        };
        let mut pairs = fields.chunks_exact(2);
        let last = pairs.find(|pair| pair[0].as_str().as_deref() == Some("last-generated-id"));
        Ok(last
            .and_then(|pair| pair[1].as_string())
            .unwrap_or_else(|| START.to_owned()))
    }
}

/// What a read brought, and the place that it reached. A gap if anything in it does not follow from the place before,
/// or cannot be understood.
fn understand(reply: Reply, place: &str) -> (Vec<Heard>, String) {
    let mut read = Read {
        place: place.to_owned(),
        revocations: Vec::new(),
        whole: true,
    };
    if let Err(error) = read.take(reply) {
        debug!(%error, "the stream of revocations is not as it should be");
        read.whole = false;
    }
    let mut heard = Vec::new();
    if !read.revocations.is_empty() {
        heard.push(Heard::Revocations(read.revocations));
    }
    if !read.whole {
        heard.push(Heard::Gap);
    }
    (heard, read.place)
}

struct Read {
    place: String,
    revocations: Vec<Revocation>,
    whole: bool,
}

impl Read {
    /// `[[stream, [[id, [field, value, …]], …]]]`
    fn take(&mut self, reply: Reply) -> Result<()> {
        let mut stream: Row = reply.row()?.next()?.row()?;
        stream.next()?;
        for mut entry in stream.rows()? {
            let id = entry.text()?;
            let (mut follows, mut content) = (false, None);
            for (name, value) in entry.next()?.row()?.pairs()? {
                match name.as_ref() {
                    b"after" => follows = value == self.place,
                    b"message" => content = message::decode(&value),
                    _ => {}
                }
            }
            self.whole &= follows && content.is_some();
            self.revocations.extend(content.into_iter().flatten());
            self.place = id;
        }
        Ok(())
    }
}
