//! TLS to Redis: which authorities are trusted, and the certificate of this client.

use fred::types::config::{TlsConfig, TlsConnector};

use crate::config::RedisTls;
use crate::trust::{ServerVerifier, client_config};

/// The configuration of all connections. Files are read again at each handshake, so that new certificates need no restart.
///
/// The error names the file and the problem.
pub(super) fn config(tls: &RedisTls) -> Result<TlsConfig, String> {
    let verifier = match &tls.ca {
        Some(path) => ServerVerifier::of_file(path)?,
        None => ServerVerifier::of_system()?,
    };
    let client = tls.client.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
    let config = client_config(verifier, client)?;
    Ok(TlsConnector::from(config).into())
}
