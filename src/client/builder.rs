//! The builder of [`Client`].

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::Status;
use tonic::transport::{ClientTlsConfig, Endpoint};

use super::calls::{Client, Inner};
use super::credential::{Bearer, Credential};
use super::outage::address;
use super::retry::{Budget, RetryPolicy};
use crate::clock::SystemClock;
use crate::secret::SystemEntropy;
use crate::trust::ServerVerifier;

/// Configures and makes a [`Client`].
#[derive(Clone, Debug)]
pub struct Builder {
    url: String,
    credential: Credential,
    tls: Option<ClientTlsConfig>,
    ca_file: Option<PathBuf>,
    retry: RetryPolicy,
    deadline: Duration,
    client_id: String,
}

impl Builder {
    /// A builder for the service at `url`, without a credential.
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            credential: Credential::None,
            tls: None,
            ca_file: None,
            retry: RetryPolicy::default(),
            deadline: Duration::from_secs(2),
            client_id: String::new(),
        }
    }

    /// Sets how the client authenticates; by default it does not.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = credential;
        self
    }

    /// Sets the certificates to trust and to present. By default an `https://` client trusts the certificates of the system.
    #[must_use]
    pub fn tls(mut self, tls: ClientTlsConfig) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Trusts the authorities of this PEM file, and no others. The file is read again at each connection. A certificate that it
    /// names exactly is trusted even if it says that it is an authority. With [`Builder::tls`], which then sets no authorities, a
    /// certificate of the client can be presented too.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// Sets how failed calls are retried.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the deadline of one attempt of a call; 2 s by default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the client id with which users are logged in. If it is not set, the service uses `default`.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }

    /// Makes the client. It connects at the first call, and again when the connection is lost.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a malformed URL or unusable certificates.
    pub fn connect_lazy(self) -> Result<Client, Status> {
        let unusable = |error: tonic::transport::Error| Status::invalid_argument(format!("url: {error}"));
        let mut endpoint = Endpoint::from_shared(self.url.clone())
            .map_err(unusable)?
            .connect_timeout(self.deadline)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let is_https = self.url.starts_with("https://");
        match (self.ca_file, self.tls) {
            (Some(_), _) if !is_https => {
                return Err(Status::invalid_argument("url: a file of authorities needs https://"));
            }
            (Some(path), tls) => {
                let verifier = ServerVerifier::of_file(&path);
                let verifier = verifier.map_err(|problem| Status::invalid_argument(format!("ca_file: {problem}")))?;
                let tls = tls.unwrap_or_default();
                endpoint = endpoint
                    .tls_config_with_verifier(tls, Arc::new(verifier))
                    .map_err(unusable)?;
            }
            (None, Some(tls)) => endpoint = endpoint.tls_config(tls).map_err(unusable)?,
            (None, None) if is_https => {
                let tls = ClientTlsConfig::new().with_native_roots();
                endpoint = endpoint.tls_config(tls).map_err(unusable)?;
            }
            (None, None) => {}
        }
        let (channel, clock) = (endpoint.connect_lazy(), Arc::new(SystemClock::new()));
        let bearer = Bearer::new(self.credential, channel.clone(), clock.clone(), self.deadline);
        Ok(Client {
            inner: Arc::new(Inner {
                address: address(&self.url),
                channel,
                bearer: Arc::new(bearer),
                budget: Budget::new(),
                retry: self.retry,
                deadline: self.deadline,
                client_id: self.client_id,
                clock,
                entropy: Arc::new(SystemEntropy),
            }),
        })
    }
}
