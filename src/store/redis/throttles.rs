//! Counters of failed attempts, shared by all replicas. A key holds sixteen bytes of an HMAC, so it does not reveal
//! which account or address it counts.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::script::{Args, args};
use super::{Redis, script};
use crate::clock::millis;
use crate::model::{Error, Result};
use crate::store::ThrottleStore;
use crate::store::throttles::{Charge, CounterKey, GcraState, Limit, LimitDecision, MAX_WAIT};

#[async_trait]
impl ThrottleStore for Redis {
    async fn wait_time(&self, counter: CounterKey, limit: Limit) -> Result<Duration> {
        let reply = self.run(&script::CELL, self.counted_key(counter), args! {}).await?;
        let mut fields = reply.fields()?;
        let state = GcraState {
            arrival: fields.int()?,
            over_limit: fields.u32()?,
        };
        Ok(state.wait_time(limit, fields.int()?))
    }

    async fn try_charge(&self, counter: CounterKey, limit: Limit) -> Result<LimitDecision> {
        let reply = self
            .run(&script::TAKE, self.counted_key(counter), limit_args(limit))
            .await?;
        let mut fields = reply.fields()?;
        let wait = fields.int()?;
        if wait > 0 {
            return Ok(LimitDecision::Wait(Duration::from_millis(wait.unsigned_abs())));
        }
        Ok(LimitDecision::Allowed(Charge {
            millis: fields.int()?,
            over_limit: fields.u32()?,
        }))
    }

    async fn refund(&self, counter: CounterKey, charge: Charge) -> Result<()> {
        let args = args! {
            added_arrival: decimal(charge.millis),
            added_over_limit: decimal(charge.over_limit.into()),
            max_wait: decimal(millis(MAX_WAIT)),
        };
        self.run(&script::REFUND, self.counted_key(counter), args)
            .await
            .map(drop)
    }

    async fn remember(&self, key: CounterKey, ttl: Duration) -> Result<()> {
        if ttl < Duration::from_millis(1) {
            return Err(Error::internal("a key must be remembered for at least a millisecond"));
        }
        let args = args! { ttl: decimal(millis(ttl)) };
        self.run(&script::REMEMBER, self.remembered_key(key), args)
            .await
            .map(drop)
    }

    async fn is_remembered(&self, key: CounterKey) -> Result<bool> {
        let found = self.run(&script::REMEMBERS, self.remembered_key(key), args! {}).await?;
        Ok(found.int()? == 1)
    }
}

fn limit_args(limit: Limit) -> Args {
    let interval = millis(limit.rate.interval());
    args! {
        interval: decimal(interval),
        tolerance: decimal(millis(limit.rate.per) - interval),
        doubling: decimal(limit.doubling.into()),
        max_wait: decimal(millis(MAX_WAIT)),
    }
}

fn decimal(number: i64) -> Bytes {
    number.to_string().into()
}

impl Redis {
    fn counted_key(&self, counter: CounterKey) -> String {
        format!("{}:t:{}", self.prefix, Uuid::from_bytes(counter).simple())
    }

    fn remembered_key(&self, key: CounterKey) -> String {
        format!("{}:r:{}", self.prefix, Uuid::from_bytes(key).simple())
    }
}
