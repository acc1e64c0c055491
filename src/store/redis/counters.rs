//! One counter on each master, to notice that Redis was restored from an old backup. It counts minutes, so how far it is behind
//! tells a backup from a failover, which loses seconds. A second key beside it has the time of the last step.
//!
//! A counter's name is the hash tag of its key: the counter lives on the master that owns the tag's slot and moves with
//! that slot. Each master is represented by the first known name whose slot it owns, or by a new name.

use std::sync::Arc;

use super::client::Routes;
use super::node::Node;
use super::script::args;
use super::{Redis, script};
use crate::model::{Error, Result};
use crate::store::{BackupCounter, COUNTER_STEP, ComparedCounters};

/// How many names are tried for a new counter. There are 16,384 slots, so every master owns the slot of one of them.
const MAX_NAMES: u32 = 1 << 20;

impl Redis {
    pub(super) async fn advance(&self, known: &[(String, i64)], backup_steps: i64) -> Result<ComparedCounters> {
        let routes = self.client.routes();
        let mut advanced = Vec::with_capacity(routes.nodes.len());
        let mut problem = None;
        for node in &routes.nodes {
            // A master that does not answer delays the comparison of its counter only.
            match self.advance_at(&routes, node, known, backup_steps).await {
                Ok(counter) => advanced.push(counter),
                Err(error) => problem = Some(error),
            }
        }
        match problem {
            Some(problem) if advanced.is_empty() => Err(problem),
            None if advanced.is_empty() => Err(Error::store_unavailable("Redis: no master is known")),
            problem => Ok(ComparedCounters {
                counters: advanced,
                is_complete: problem.is_none(),
            }),
        }
    }

    async fn advance_at(
        &self,
        routes: &Routes,
        node: &Arc<Node>,
        known: &[(String, i64)],
        backup_steps: i64,
    ) -> Result<BackupCounter> {
        let (name, stored) = self.representative(routes, node, known)?;
        let args = args! {
            stored_value: stored.to_string().into(),
            backup_steps: backup_steps.to_string().into(),
            interval: COUNTER_STEP.as_millis().to_string().into(),
        };
        let key = self.counter_key(&name);
        let last_step = format!("{key}:step");
        let mut reply = self
            .client
            .run(&script::COUNTER, vec![key, last_step], args)
            .await?
            .fields()?;
        Ok(BackupCounter {
            name,
            value: reply.next()?.int()?,
            behind: reply.next()?.int()?,
        })
    }

    pub(super) async fn raise(&self, behind: &[BackupCounter]) -> Result<()> {
        for counter in behind {
            let args = args! {
                seen: counter.value.to_string().into(),
                value: counter.value.saturating_add(counter.behind).to_string().into(),
            };
            self.run(&script::RAISE, self.counter_key(&counter.name), args).await?;
        }
        Ok(())
    }

    /// The counter that represents `master`, with its stored value; 0 for a new one.
    fn representative(&self, routes: &Routes, master: &Arc<Node>, known: &[(String, i64)]) -> Result<(String, i64)> {
        let is_owned = |name: &str| routes.owns(master, &self.counter_key(name));
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
