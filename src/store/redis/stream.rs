//! Announcements: revocations on a Redis Stream, so that every replica knows within milliseconds.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::reader::Reader;
use super::{Redis, message, script};
use crate::model::{Result, Revocation};
use crate::store::{Announcements, Heard};

/// About how many messages the stream keeps. A reader further behind than that reconciles instead.
const KEPT: &str = "10000";

/// So many revocations in one message, so many messages in one call.
const BATCH: usize = 128;
const CALL: usize = 64;

/// So much may wait for a listener before it is told that it missed something.
const WAITING: usize = 256;

#[async_trait]
impl Announcements for Redis {
    async fn announce(&self, revocations: &[Revocation]) -> Result<()> {
        let messages = revocations
            .chunks(BATCH)
            .map(message::encode)
            .collect::<Result<Vec<_>>>()?;
        for some in messages.chunks(CALL) {
            let mut args = vec![Bytes::from_static(KEPT.as_bytes())];
            args.extend(some.iter().cloned().map(Bytes::from));
            self.run(&script::ANNOUNCE, self.stream_key(), args).await?;
        }
        Ok(())
    }

    fn listen(&self) -> mpsc::Receiver<Heard> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let reader = Reader {
            builder: self.reader.clone(),
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
