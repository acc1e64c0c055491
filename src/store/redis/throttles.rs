//! Counters of failed attempts, shared by all replicas. A name is sixteen bytes of an HMAC: nothing in a key tells whom
//! it counts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::{Redis, script};
use crate::clock::millis;
use crate::model::{Error, Result};
use crate::store::ThrottleStore;
use crate::store::throttles::{Cell, Charge, LONGEST_WAIT, Limit, Take};

#[async_trait]
impl ThrottleStore for Redis {
    async fn wait(&self, name: [u8; 16], limit: Limit) -> Result<Duration> {
        let reply = self.run(&script::CELL, self.counted(name), Vec::new()).await?;
        let mut row = reply.row()?;
        let cell = Cell {
            arrival: row.int()?,
            strikes: row.u32()?,
        };
        Ok(cell.wait(limit, row.int()?))
    }

    async fn take(&self, name: [u8; 16], limit: Limit) -> Result<Take> {
        let reply = self
            .run(&script::TAKE, self.counted(name), numbers(limits(limit)))
            .await?;
        let mut row = reply.row()?;
        let wait = row.int()?;
        if wait > 0 {
            return Ok(Take::Wait(Duration::from_millis(wait.unsigned_abs())));
        }
        Ok(Take::Taken(Charge {
            millis: row.int()?,
            strikes: row.u32()?,
        }))
    }

    async fn refund(&self, name: [u8; 16], charge: Charge) -> Result<()> {
        let args = numbers([charge.millis, charge.strikes.into(), millis(LONGEST_WAIT)]);
        self.run(&script::REFUND, self.counted(name), args).await.map(drop)
    }

    async fn charge(&self, name: [u8; 16], limit: Limit) -> Result<()> {
        let args = numbers(limits(limit));
        self.run(&script::CHARGE, self.counted(name), args).await.map(drop)
    }

    async fn remember(&self, name: [u8; 16], keep: Duration) -> Result<()> {
        if keep < Duration::from_millis(1) {
            return Err(Error::internal("nothing is remembered for no time"));
        }
        let args = vec![Bytes::from(millis(keep).to_string())];
        self.run(&script::REMEMBER, self.remembered(name), args).await.map(drop)
    }

    async fn remembers(&self, name: [u8; 16]) -> Result<bool> {
        let found = self.run(&script::REMEMBERS, self.remembered(name), Vec::new()).await?;
        Ok(found.int()? == 1)
    }
}

fn limits(limit: Limit) -> [i64; 4] {
    let interval = millis(limit.rate.interval());
    [
        interval,
        millis(limit.rate.per) - interval,
        limit.doubling.into(),
        millis(LONGEST_WAIT),
    ]
}

fn numbers<const N: usize>(numbers: [i64; N]) -> Vec<Bytes> {
    numbers.map(|number| Bytes::from(number.to_string())).to_vec()
}

impl Redis {
    fn counted(&self, name: [u8; 16]) -> String {
        format!("{}:t:{}", self.prefix, Uuid::from_bytes(name).simple())
    }

    fn remembered(&self, name: [u8; 16]) -> String {
        format!("{}:r:{}", self.prefix, Uuid::from_bytes(name).simple())
    }
}
