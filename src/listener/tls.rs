//! TLS: the server's certificate, and the CA that vouches for clients.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How a listener talks to its peers.
#[derive(Clone, Debug)]
pub enum Security {
    /// In the clear.
    Plain,
    /// Under TLS. Each handshake takes the configuration of that moment, so a new certificate needs no restart.
    Tls(Arc<ArcSwap<ServerConfig>>),
}

/// Where the parts of a TLS configuration lie, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain, its own first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CAs of client certificates; without it none is asked for. A client may always come without one: it is then
    /// nobody until it shows a token.
    pub client_ca: Option<PathBuf>,
}

impl TlsFiles {
    /// Reads the files. `alpn` is the one protocol that is spoken (`h2`, `http/1.1`).
    ///
    /// # Errors
    /// With one line that names the file and what is wrong with it.
    pub fn load(&self, alpn: &[u8]) -> Result<ServerConfig, String> {
        let chain: Vec<CertificateDer<'static>> = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| complaint(&self.key, &error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for ca in certificates(path)? {
                    roots.add(ca).map_err(|error| complaint(path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| complaint(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| complaint(&self.cert, &error))?;
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(config)
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| complaint(path, &error))?;
    if list.is_empty() {
        return Err(format!("{}: holds no certificate", path.display()));
    }
    Ok(list)
}

fn complaint(path: &std::path::Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let good = TlsFiles {
            cert: write("cert.pem", &own.cert.pem()),
            key: write("key.pem", &own.signing_key.serialize_pem()),
            client_ca: None,
        };
        assert_eq!(good.load(b"h2").unwrap().alpn_protocols, [b"h2".to_vec()]);
        let with_ca = TlsFiles {
            client_ca: Some(good.cert.clone()),
            ..good.clone()
        };
        assert!(with_ca.load(b"h2").is_ok());
        let bad = [
            (
                "empty.pem",
                TlsFiles {
                    cert: write("empty.pem", ""),
                    ..good.clone()
                },
            ),
            (
                "half.pem",
                TlsFiles {
                    cert: write("half.pem", &own.cert.pem()[..200]),
                    ..good.clone()
                },
            ),
            (
                "absent.pem",
                TlsFiles {
                    key: dir.path().join("absent.pem"),
                    ..good.clone()
                },
            ),
            (
                "cert.pem",
                TlsFiles {
                    key: write("other.pem", &other.serialize_pem()),
                    ..good.clone()
                },
            ),
            (
                "ca.pem",
                TlsFiles {
                    client_ca: Some(write("ca.pem", "not a certificate")),
                    ..good
                },
            ),
        ];
        for (named, files) in bad {
            let complaint = files.load(b"h2").unwrap_err();
            assert!(complaint.contains(named), "{complaint}");
        }
    }
}
