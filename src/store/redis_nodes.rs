//! The nodes of Redis that replicas remember for each other.

/// Sentinels or nodes of a cluster. They are asked if no configured one answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RedisNodes {
    /// Each as `host:port`.
    pub addresses: Vec<String>,
    /// The ids of the deployment's nodes: a node that names none of them belongs to another one. Empty if they are not known.
    pub ids: Vec<String>,
}
