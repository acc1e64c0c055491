//! A connection to a server, with the caller's own token on every call.

use std::error::Error;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use crate::cli::Failure;
use crate::proto::token_service_client::TokenServiceClient;
use crate::secret::SecretText;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than the server takes for a login under load, shorter than somebody waits before a terminal.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The service, called as whoever `COUNTERSIGN_TOKEN` says.
pub(super) type Service = TokenServiceClient<InterceptedService<Channel, Bearer>>;

/// Which server, and as whom.
pub(super) struct Caller {
    /// Its URL.
    pub(super) server: String,
    /// The caller's own access token.
    pub(super) token: Option<SecretText>,
}

impl Caller {
    /// Connects.
    pub(super) async fn connect(&self) -> Result<Service, Failure> {
        let bearer = self.token.as_ref().map(bearer).transpose()?;
        let endpoint = self.endpoint()?;
        let channel = endpoint.connect().await.map_err(|error| {
            Failure::unreachable(format!(
                "cannot reach {}: {}; is `countersign serve` running there? (--server URL names another)",
                self.server,
                root_cause(&error)
            ))
        })?;
        Ok(TokenServiceClient::with_interceptor(channel, Bearer(bearer)))
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        let wrong = || Failure::usage("--server must be a URL: http://HOST:PORT or https://HOST:PORT");
        let endpoint = Endpoint::from_shared(self.server.clone()).map_err(|_| wrong())?;
        let endpoint = match endpoint.uri().scheme_str() {
            Some("http") => endpoint,
            Some("https") => {
                let roots = ClientTlsConfig::new().with_native_roots();
                endpoint
                    .tls_config(roots)
                    .map_err(|error| Failure::other(format!("cannot use TLS: {error}")))?
            }
            _ => return Err(wrong()),
        };
        Ok(endpoint.connect_timeout(CONNECT_TIMEOUT))
    }
}

/// A call that is given up when it takes too long.
pub(super) fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Puts the caller's own token on a call.
#[derive(Clone)]
pub(super) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

fn bearer(token: &SecretText) -> Result<MetadataValue<Ascii>, Failure> {
    let value = format!("Bearer {}", token.expose().trim());
    let mut value = MetadataValue::try_from(value).map_err(|_| Failure::usage("COUNTERSIGN_TOKEN is not a token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What lies under an error that says no more than that something failed.
fn root_cause(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
