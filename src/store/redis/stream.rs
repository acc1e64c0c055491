//! Announcements: revocations on a Redis Stream, so that every replica learns of them within milliseconds.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::script::args;
use super::stream_reader::StreamReader;
use super::{Redis, message, script};
use crate::model::{Result, Revocation};
use crate::store::{AnnouncementEvent, Announcements, DatabaseSide};

/// About how many messages the stream keeps. A reader that is further behind loads from the database instead.
const STREAM_MAX_LEN: &str = "10000";

const REVOCATIONS_PER_MESSAGE: usize = 128;
const MESSAGES_PER_CALL: usize = 64;

/// How many events may wait for a listener before it misses some; it is then told of a gap.
const LISTENER_BUFFER: usize = 256;

#[async_trait]
impl Announcements for Redis {
    async fn announce(&self, revocations: &[Revocation]) -> Result<()> {
        let messages = revocations
            .chunks(REVOCATIONS_PER_MESSAGE)
            .map(message::encode)
            .collect::<Result<Vec<_>>>()?;
        for messages in messages.chunks(MESSAGES_PER_CALL) {
            let args = args! { max_len: Bytes::from_static(STREAM_MAX_LEN.as_bytes()) }
                .followed_by(messages.iter().cloned().map(Bytes::from));
            self.run(&script::ANNOUNCE, self.stream_key(), args).await?;
        }
        Ok(())
    }

    async fn publish_side(&self, replica: &str, side: DatabaseSide) -> Result<Vec<DatabaseSide>> {
        self.exchange_sides(replica, side).await
    }

    fn listen(&self) -> mpsc::Receiver<AnnouncementEvent> {
        let (sender, receiver) = mpsc::channel(LISTENER_BUFFER);
        let reader = StreamReader {
            builder: self.reader.clone(),
            found: self.client.found.clone(),
            stream: self.stream_key(),
            entropy: self.entropy.clone(),
        };
        tokio::spawn(reader.follow(sender));
        receiver
    }
}

impl Redis {
    fn stream_key(&self) -> String {
        format!("{}:revocations", self.prefix)
    }
}
