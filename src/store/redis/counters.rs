//! One counter a master, to tell when Redis came back from an old backup.
//!
//! A counter's name is a hash tag, so the counter lives where that tag's slot lives and moves with it. Each master is
//! represented by the first known name that it holds, or by a new one.

use bytes::Bytes;

use super::link::Master;
use super::{Redis, script};
use crate::model::{Error, Result};

/// Slots are many and names are cheap: among so many names every master holds one.
const NAMES: u32 = 1 << 20;

impl Redis {
    pub(super) async fn advance(&self, known: &[(String, i64)]) -> Result<Vec<(String, i64)>> {
        let masters = self.link.masters();
        if masters.is_empty() {
            return Err(Error::store_unavailable("Redis: no master is known"));
        }
        let mut advanced = Vec::with_capacity(masters.len());
        for master in masters {
            let (name, value) = self.representative(&master, known)?;
            let start = Bytes::from(value.to_string());
            let reply = self.run(&script::COUNTER, self.counter_key(&name), vec![start]).await?;
            advanced.push((name, reply.int()?));
        }
        Ok(advanced)
    }

    pub(super) async fn raise(&self, values: &[(String, i64)]) -> Result<()> {
        for (name, value) in values {
            let value = Bytes::from(value.to_string());
            self.run(&script::RAISE, self.counter_key(name), vec![value]).await?;
        }
        Ok(())
    }

    fn representative(&self, master: &Master, known: &[(String, i64)]) -> Result<(String, i64)> {
        let held = |name: &str| master.holds(&self.counter_key(name));
        if let Some(first) = known.iter().filter(|(name, _)| held(name)).min() {
            return Ok(first.clone());
        }
        (0..NAMES)
            .map(|n| n.to_string())
            .find(|name| held(name))
            .map(|name| (name, 0))
            .ok_or_else(|| Error::store_unavailable("Redis: a master holds no slots"))
    }

    fn counter_key(&self, name: &str) -> String {
        format!("{}:counter:{{{name}}}", self.prefix)
    }
}
