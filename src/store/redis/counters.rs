//! One counter on each master, to notice that Redis was restored from an old backup.
//!
//! A counter's name is the hash tag of its key: the counter lives on the master that owns the tag's slot and moves with
//! that slot. Each master is represented by the first known name whose slot it owns, or by a new name.

use super::client::MasterNode;
use super::script::args;
use super::{Redis, script};
use crate::model::{Error, Result};

/// How many names are tried for a new counter. There are 16,384 slots, so every master owns the slot of one of them.
const MAX_NAMES: u32 = 1 << 20;

impl Redis {
    pub(super) async fn advance(&self, known: &[(String, i64)]) -> Result<Vec<(String, i64)>> {
        let masters = self.client.masters();
        if masters.is_empty() {
            return Err(Error::store_unavailable("Redis: no master is known"));
        }
        let mut advanced = Vec::with_capacity(masters.len());
        for master in masters {
            let (name, value) = self.representative(&master, known)?;
            let args = args! { stored_value: value.to_string().into() };
            let reply = self.run(&script::COUNTER, self.counter_key(&name), args).await?;
            advanced.push((name, reply.int()?));
        }
        Ok(advanced)
    }

    pub(super) async fn raise(&self, values: &[(String, i64)]) -> Result<()> {
        for (name, value) in values {
            let args = args! { value: value.to_string().into() };
            self.run(&script::RAISE, self.counter_key(name), args).await?;
        }
        Ok(())
    }

    /// The counter that represents `master`, with its stored value; 0 for a new one.
    fn representative(&self, master: &MasterNode, known: &[(String, i64)]) -> Result<(String, i64)> {
        let is_owned = |name: &str| master.owns(&self.counter_key(name));
        if let Some(first) = known.iter().filter(|(name, _)| is_owned(name)).min() {
            return Ok(first.clone());
        }
        (0..MAX_NAMES)
            .map(|n| n.to_string())
            .find(|name| is_owned(name))
            .map(|name| (name, 0))
            .ok_or_else(|| Error::store_unavailable("Redis: a master owns no slots"))
    }

    fn counter_key(&self, name: &str) -> String {
        format!("{}:counter:{{{name}}}", self.prefix)
    }
}
