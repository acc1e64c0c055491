//! The server that a command calls, and the certificates that it trusts there.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{ClientTlsConfig, Endpoint};

use super::{Context, Failure};
use crate::trust::ServerVerifier;

/// The address on which `serve` listens by default.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Names the server, if `--server` does not.
const SERVER: &str = "COUNTERSIGN_SERVER";

/// Names the file of the authorities, if `--ca-file` does not.
const CA_FILE: &str = "COUNTERSIGN_CA_FILE";

/// The options that name a server.
#[derive(clap::Args)]
pub(super) struct ServerArgs {
    /// The server: `http://HOST:PORT`, `https://HOST:PORT` or `unix:PATH` [default: `COUNTERSIGN_SERVER`, else
    /// <http://127.0.0.1:50051>]. The caller's access token, if one is needed, is read from `COUNTERSIGN_TOKEN`.
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,

    /// PEM file with the authorities to trust, or with the certificate of the server itself [default: `COUNTERSIGN_CA_FILE`,
    /// else those of the system].
    #[arg(long, global = true, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// A server to call.
pub(super) struct Server {
    /// Its URL.
    pub(super) url: String,
    ca_file: Option<PathBuf>,
}

impl ServerArgs {
    /// The server of the options or of the environment.
    pub(super) fn server(self, context: &Context) -> Server {
        let url = self.server.or_else(|| server_variable(context));
        Server {
            url: url.unwrap_or_else(|| DEFAULT_SERVER.to_owned()),
            ca_file: self.ca_file.or_else(|| ca_file_variable(context).map(PathBuf::from)),
        }
    }
}

/// The server that the environment names.
pub(super) fn server_variable(context: &Context) -> Option<String> {
    context.variable(SERVER).map(str::to_owned)
}

/// The file of authorities that the environment names.
pub(super) fn ca_file_variable(context: &Context) -> Option<String> {
    context.variable(CA_FILE).map(str::to_owned)
}

impl Server {
    /// The endpoint, which is not connected yet.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let invalid = || Failure::usage("--server must be a URL: http://HOST:PORT, https://HOST:PORT or unix:PATH");
        let is_unix = self.url.strip_prefix("unix:").is_some_and(|path| !path.is_empty());
        let endpoint = Endpoint::from_shared(self.url.clone()).map_err(|_| invalid())?;
        let cannot = |problem: &dyn std::fmt::Display| Failure::usage(format!("cannot use TLS: {problem}"));
        let endpoint = match (endpoint.uri().scheme_str(), &self.ca_file) {
            _ if is_unix => endpoint,
            // The variable may be set for other commands.
            (Some("http"), _) => endpoint,
            (Some("https"), Some(path)) => {
                let verifier = ServerVerifier::of_file(path).map_err(|problem| cannot(&problem))?;
                let tls = endpoint.tls_config_with_verifier(ClientTlsConfig::new(), Arc::new(verifier));
                tls.map_err(|error| cannot(&error))?
            }
            (Some("https"), None) => {
                let tls = endpoint.tls_config(ClientTlsConfig::new().with_native_roots());
                tls.map_err(|error| cannot(&error))?
            }
            _ => return Err(invalid()),
        };
        Ok(endpoint.connect_timeout(CONNECT_TIMEOUT))
    }
}
