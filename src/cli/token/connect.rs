//! A connection to a server that sends the caller's access token with every call.

use std::error::Error;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::cli::Failure;
use crate::cli::remote::Server;
use crate::proto::token_service_client::TokenServiceClient;
use crate::secret::SecretText;

/// Longer than a login takes under load, and short enough for a user at a terminal.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A client of the service that sends the access token of `COUNTERSIGN_TOKEN`.
pub(super) type Service = TokenServiceClient<InterceptedService<Channel, Bearer>>;

/// The server to call, and the access token to call it with.
pub(super) struct Caller {
    /// The server.
    pub(super) server: Server,
    /// The caller's access token.
    pub(super) token: Option<SecretText>,
}

impl Caller {
    /// Connects to the server.
    pub(super) async fn connect(&self) -> Result<Service, Failure> {
        let bearer = self.token.as_ref().map(bearer).transpose()?;
        let endpoint = self.server.endpoint()?;
        let channel = endpoint.connect().await.map_err(|error| {
            Failure::unreachable(format!(
                "cannot reach {}: {}; is `countersign serve` running there? (--server URL names another)",
                self.server.url,
                hint(&root_cause(&error))
            ))
        })?;
        Ok(TokenServiceClient::with_interceptor(channel, Bearer(bearer)))
    }
}

/// A request with a timeout.
pub(super) fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Adds the caller's access token to a call.
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
    let mut value =
        MetadataValue::try_from(value).map_err(|_| Failure::usage("COUNTERSIGN_TOKEN is not an access token"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The last error in the chain of sources: the errors above it only say that something failed.
fn root_cause(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// The cause, with what to do where the server's certificate is refused.
fn hint(cause: &str) -> String {
    if cause.contains("UnknownIssuer") {
        return format!("{cause} (--ca-file FILE names the authority of the server's certificate)");
    }
    cause.to_owned()
}
