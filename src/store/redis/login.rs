//! The users and passwords with which connections log in. They can change while the store is open.

use std::sync::Arc;

use async_trait::async_trait;
use fred::error::Error as FredError;
use fred::types::config::{CredentialProvider, Server};
use parking_lot::RwLock;

use crate::config::{RedisLogin, RedisUrl};
use crate::secret::SecretText;

/// Asked by fred for each new connection to a server.
pub(super) struct Login(RwLock<RedisLogin>);

/// Asked by fred for each new connection to a Sentinel, whose users are its own.
#[derive(Debug)]
pub(super) struct SentinelLogin(pub(super) Arc<Login>);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

type Credentials = Result<(Option<String>, Option<String>), FredError>;

impl Login {
    pub(super) fn new(url: &RedisUrl) -> Self {
        Self(RwLock::new(url.login.clone()))
    }

    /// New connections log in as this URL says.
    pub(super) fn change(&self, url: &RedisUrl) {
        *self.0.write() = url.login.clone();
    }
}

#[async_trait]
impl CredentialProvider for Login {
    async fn fetch(&self, _: Option<&Server>) -> Credentials {
        let login = self.0.read();
        Ok((login.user.clone(), text(login.password.as_ref())))
    }
}

#[async_trait]
impl CredentialProvider for SentinelLogin {
    async fn fetch(&self, _: Option<&Server>) -> Credentials {
        let login = self.0.0.read();
        Ok((login.sentinel_user.clone(), text(login.sentinel_password.as_ref())))
    }
}

fn text(password: Option<&SecretText>) -> Option<String> {
    password.map(|password| password.expose().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nodes_of_sentinel_have_a_login_of_their_own() {
        let url = |text: &str| RedisUrl::parse(&text.into()).unwrap();
        let sentinel = url("redis-sentinel://ada:one@a:26379?sentinelServiceName=m&sentinelPassword=two");
        let login = Arc::new(Login::new(&sentinel));
        let at_sentinel = SentinelLogin(Arc::clone(&login));
        let (server, node) = (login.fetch(None).await.unwrap(), at_sentinel.fetch(None).await.unwrap());
        assert_eq!(server, (Some("ada".to_owned()), Some("one".to_owned())));
        assert_eq!(node, (None, Some("two".to_owned())));
        login.change(&url("redis-sentinel://ada:three@a:26379?sentinelServiceName=m"));
        assert_eq!(login.fetch(None).await.unwrap().1.as_deref(), Some("three"));
        assert_eq!(at_sentinel.fetch(None).await.unwrap(), (None, None));
        assert!(!format!("{at_sentinel:?}").contains("three"));
    }
}
