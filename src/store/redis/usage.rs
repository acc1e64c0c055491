//! How much is stored in Redis: memory, and the number of sessions.

use std::time::Duration;

use fred::error::Error as FredError;
use fred::interfaces::ClientLike;
use fred::types::config::Options;
use fred::types::{ClusterHash, CustomCommand, Value};
use futures_util::future::try_join_all;

use super::Redis;
use super::failure::to_store_error;
use super::health::info_field;
use crate::model::{Error, Result};

/// How many keys of a master are looked at for the estimate of the sessions. Up to this many, the number is exact.
const SAMPLED_KEYS: i64 = 1000;

/// How many users of the sample have their sessions counted.
const SAMPLED_USERS: usize = 100;

/// How long one command may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The memory of the masters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MemoryUsage {
    /// In use, of all masters together.
    pub used: u64,
    /// The limit (`maxmemory`) of all masters together; 0 if one of them has none.
    pub max: u64,
    /// The part of the limit that is in use, of the fullest master; 0 if no master has a limit.
    pub fullest: f64,
}

impl Redis {
    /// Reads the memory of every master. `STORE_UNAVAILABLE` if one does not answer.
    pub async fn memory_usage(&self) -> Result<MemoryUsage> {
        let infos = self
            .on_each_master(|node| async move {
                let info: String = node.info(None).await?;
                let number = |name| info_field(&info, name).and_then(|text| text.parse::<u64>().ok());
                Ok((
                    number("used_memory").unwrap_or_default(),
                    number("maxmemory").unwrap_or_default(),
                ))
            })
            .await?;
        Ok(memory_of(&infos))
    }

    /// About how many sessions are stored: exact while a master has few keys, else an estimate from a sample of them. A
    /// session counts until its record is removed, up to an hour after its end.
    pub async fn count_sessions(&self) -> Result<u64> {
        let prefix = format!("{}:s:", self.prefix);
        let counts = self
            .on_each_master(|node| {
                let prefix = prefix.clone();
                async move { count_on(&node, &prefix).await }
            })
            .await?;
        Ok(counts.iter().sum())
    }

    /// Runs `read` on each master, over an open connection.
    async fn on_each_master<T, F>(
        &self,
        read: impl Fn(fred::clients::WithOptions<fred::clients::Client>) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T, FredError>>,
    {
        let routes = self.client.routes();
        let closed = || Error::store_unavailable("Redis: no connection").already_logged();
        let clients: Vec<_> = routes
            .nodes
            .iter()
            .map(|node| Some(&node.open()?.client))
            .collect::<Option<_>>()
            .ok_or_else(closed)?;
        let reads = clients.into_iter().map(|client| {
            read(client.with_options(&Options {
                timeout: Some(TIMEOUT),
                fail_fast: true,
                ..Options::default()
            }))
        });
        try_join_all(reads).await.map_err(|error| to_store_error(&error))
    }
}

fn memory_of(masters: &[(u64, u64)]) -> MemoryUsage {
    #[expect(clippy::cast_precision_loss, reason = "a ratio for a gauge")]
    let ratios = masters
        .iter()
        .filter(|(_, max)| *max > 0)
        .map(|(used, max)| *used as f64 / *max as f64);
    let has_limits = masters.iter().all(|(_, max)| *max > 0);
    MemoryUsage {
        used: masters.iter().map(|(used, _)| used).sum(),
        max: if has_limits {
            masters.iter().map(|(_, max)| max).sum()
        } else {
            0
        },
        fullest: ratios.fold(0.0, f64::max),
    }
}

/// The number of sessions on one master. `SCAN` returns keys in the order of their hashes, so the first ones are a fair sample.
async fn count_on(node: &impl ClientLike, prefix: &str) -> Result<u64, FredError> {
    let custom = |name| CustomCommand::new_static(name, ClusterHash::Random, false);
    let arguments: Vec<Value> = vec!["0".into(), "COUNT".into(), SAMPLED_KEYS.into()];
    let (cursor, sample): (String, Vec<String>) = node.custom(custom("SCAN"), arguments).await?;
    let users: Vec<&String> = sample.iter().filter(|key| key.starts_with(prefix)).collect();
    let is_complete = cursor == "0";
    let counted = if is_complete {
        users.len()
    } else {
        users.len().min(SAMPLED_USERS)
    };
    let lengths = users.iter().take(counted).map(|key| {
        let command = CustomCommand::new_static("HLEN", ClusterHash::FirstKey, false);
        node.custom::<u64, Value>(command, vec![key.as_str().into()])
    });
    let sessions: u64 = try_join_all(lengths).await?.into_iter().sum();
    if is_complete {
        return Ok(sessions);
    }
    let keys: u64 = node.custom(custom("DBSIZE"), Vec::<Value>::new()).await?;
    Ok(estimate(keys, sample.len(), users.len(), counted, sessions))
}

/// The sessions among `keys`, if `users` of the `sampled` keys hold sessions, and `counted` of these hold `sessions`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate"
)]
fn estimate(keys: u64, sampled: usize, users: usize, counted: usize, sessions: u64) -> u64 {
    if sampled == 0 || counted == 0 {
        return 0;
    }
    let of_users = keys as f64 * users as f64 / sampled as f64;
    (of_users * sessions as f64 / counted as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_master_counts() {
        assert_eq!(memory_of(&[]), MemoryUsage::default());
        let usage = memory_of(&[(10, 100), (90, 100)]);
        assert_eq!((usage.used, usage.max), (100, 200));
        assert!((usage.fullest - 0.9).abs() < 1e-9);
        let usage = memory_of(&[(10, 0), (90, 100)]);
        assert_eq!((usage.used, usage.max), (100, 0));
        assert!((usage.fullest - 0.9).abs() < 1e-9);
    }

    #[test]
    fn the_estimate_is_in_proportion_to_the_sample() {
        assert_eq!(estimate(100_000, 1000, 500, 100, 250), 125_000);
        assert_eq!(estimate(100_000, 1000, 0, 0, 0), 0);
        assert_eq!(estimate(0, 0, 0, 0, 0), 0);
    }
}
