//! The addresses of Sentinels and of cluster nodes that replicas found. A replica that starts while the configured nodes are dead
//! asks these.

use super::store::PostgresStore;
use crate::model::Result;
use crate::store::RedisNodes;
use crate::store::durable::statement::sql;
use crate::store::durable::{Backend as _, Columns, PoolKind};

/// After this time without a confirmation, addresses are forgotten (30 days in milliseconds).
const FORGET_AFTER: i64 = 30 * 86_400_000;

impl PostgresStore {
    /// The nodes that were found from these configured ones.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` if the database does not answer.
    pub async fn redis_nodes(&self, configured: &str) -> Result<RedisNodes> {
        let read = sql!("SELECT nodes, ids FROM redis_nodes WHERE configured = $1").bind(configured);
        let rows = self.query(PoolKind::Maintenance, read, |columns: &mut Columns<'_>| {
            Ok(RedisNodes {
                addresses: columns.take()?,
                ids: columns.take()?,
            })
        });
        Ok(rows.await?.into_iter().next().unwrap_or_default())
    }

    /// Replaces the nodes that were found from these configured ones, and forgets those that no replica has confirmed for long.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` if the database does not answer.
    pub async fn remember_redis_nodes(&self, configured: &str, nodes: RedisNodes) -> Result<()> {
        let store = sql!(
            "INSERT INTO redis_nodes (configured, nodes, ids, seen) VALUES ($1, $2, $3, ",
            now,
            ") ON CONFLICT (configured) DO UPDATE SET nodes = excluded.nodes, ids = excluded.ids, seen = excluded.seen"
        );
        self.run(
            PoolKind::Maintenance,
            store.bind(configured).bind(nodes.addresses).bind(nodes.ids),
        )
        .await?;
        let forget = sql!("DELETE FROM redis_nodes WHERE seen < ", now, " - $1").bind(FORGET_AFTER);
        self.run(PoolKind::Maintenance, forget).await.map(drop)
    }
}
