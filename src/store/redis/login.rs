//! The users and passwords with which connections log in. They can change while the store is open.

use async_trait::async_trait;
use fred::error::Error as FredError;
use fred::types::config::{CredentialProvider, Server};
use parking_lot::RwLock;

use crate::config::{RedisLogin, RedisServers, RedisUrl};

/// Asked by fred for each new connection.
pub(super) struct Login {
    current: RwLock<RedisLogin>,
    /// The ports of the nodes of Sentinel; empty without Sentinel.
    sentinel_ports: Vec<u16>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

impl Login {
    pub(super) fn new(url: &RedisUrl) -> Self {
        let sentinel_ports = match &url.servers {
            RedisServers::Sentinel(nodes, _) => nodes.iter().map(|(_, port)| *port).collect(),
            RedisServers::Single(_) | RedisServers::Cluster(_) | RedisServers::Unix(_) => Vec::new(),
        };
        Self {
            current: RwLock::new(url.login.clone()),
            sentinel_ports,
        }
    }

    /// New connections log in as this URL says.
    pub(super) fn change(&self, url: &RedisUrl) {
        *self.current.write() = url.login.clone();
    }
}

#[async_trait]
impl CredentialProvider for Login {
    async fn fetch(&self, server: Option<&Server>) -> Result<(Option<String>, Option<String>), FredError> {
        // fred does not say whether the server is a master or a node of Sentinel, and it finds nodes that the URL does not name.
        // Their ports differ: all nodes of Sentinel have the port of those in the URL.
        let is_sentinel = server.is_some_and(|server| self.sentinel_ports.contains(&server.port));
        let login = self.current.read();
        let (user, password) = if is_sentinel {
            (&login.sentinel_user, &login.sentinel_password)
        } else {
            (&login.user, &login.password)
        };
        Ok((
            user.clone(),
            password.as_ref().map(|password| password.expose().to_owned()),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nodes_of_sentinel_have_a_login_of_their_own() {
        let url = |text: &str| RedisUrl::parse(&text.into()).unwrap();
        let sentinel = url("redis-sentinel://ada:one@a:26379?sentinelServiceName=m&sentinelPassword=two");
        let login = Login::new(&sentinel);
        let at = async |port| login.fetch(Some(&Server::new("b", port))).await.unwrap();
        assert_eq!(at(6379).await, (Some("ada".to_owned()), Some("one".to_owned())));
        assert_eq!(at(26379).await, (None, Some("two".to_owned())));
        login.change(&url("redis-sentinel://ada:three@a:26379?sentinelServiceName=m"));
        assert_eq!(at(6379).await.1.as_deref(), Some("three"));
        assert_eq!(at(26379).await, (None, None));
        assert!(!format!("{login:?}").contains("three"));
    }
}
