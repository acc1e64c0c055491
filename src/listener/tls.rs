//! TLS: the certificate of the server, and the CAs of client certificates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::aws_lc_rs::digest::{SHA256, digest};
use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use super::client_verifier::ClientVerifier;
use crate::clock::UnixMillis;
use crate::trust;

/// The transport security of a listener.
#[derive(Clone, Debug)]
pub enum Security {
    /// No TLS.
    Plain,
    /// TLS. Each handshake loads the current configuration, so a new certificate needs no restart.
    Tls(Arc<ArcSwap<ServerConfig>>),
}

/// The paths of the TLS files, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key of the server's certificate.
    pub key: PathBuf,
    /// The CAs of client certificates; without it, none is requested. A client may always connect without a certificate
    /// and authenticate with a token.
    pub client_ca: Option<PathBuf>,
}

/// The contents of the files at one moment.
pub struct TlsMaterial {
    files: TlsFiles,
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Vec<u8>>,
}

/// The validity period of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The certificate's `notBefore`.
    pub from: UnixMillis,
    /// The certificate's `notAfter`.
    pub until: UnixMillis,
}

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn read(&self) -> Result<TlsMaterial, String> {
        let read = |path: &PathBuf| std::fs::read(path).map_err(|error| file_error(path, &error));
        Ok(TlsMaterial {
            cert: read(&self.cert)?,
            key: Zeroizing::new(read(&self.key)?),
            client_ca: self.client_ca.as_ref().map(read).transpose()?,
            files: self.clone(),
        })
    }

    /// Reads the files and builds a configuration; see [`TlsMaterial::config`].
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn load(&self, alpn: &[u8]) -> Result<ServerConfig, String> {
        self.read()?.config(alpn)
    }
}

impl TlsMaterial {
    /// Builds the configuration of a listener. `alpn` is its protocol (`h2` or `http/1.1`). A listener of `h2` lets clients of
    /// HTTP/1.1 finish the handshake too, so that they can be told in their own protocol what they have reached.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn config(&self, alpn: &[u8]) -> Result<ServerConfig, String> {
        let files = &self.files;
        let chain = certificates(&files.cert, &self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| file_error(&files.key, &error))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&files.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let authorities = certificates(path, pem)?;
                let mut roots = RootCertStore::empty();
                for ca in &authorities {
                    roots.add(ca.clone()).map_err(|error| file_error(path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| file_error(path, &error))?;
                builder.with_client_cert_verifier(Arc::new(ClientVerifier { verifier, authorities }))
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|error| file_error(&files.cert, &error))?;
        // In the order of preference: a client that offers both gets the first.
        config.alpn_protocols = vec![alpn.to_vec()];
        if alpn == b"h2" {
            config.alpn_protocols.push(b"http/1.1".to_vec());
        }
        Ok(config)
    }

    /// The validity period of the server's own certificate.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn validity(&self) -> Result<Validity, String> {
        let path = &self.files.cert;
        let chain = certificates(path, &self.cert)?;
        chain.first().map_or_else(
            || Err(file_error(path, &"contains no certificate")),
            |own| validity(own).map_err(|error| file_error(path, &error)),
        )
    }

    /// The validity period of the client CA that expires last; after that, no client certificate is valid. `None`
    /// without such a file. An expired CA beside a valid one is normal during a change of CAs.
    ///
    /// # Errors
    /// One line that names the file and the problem.
    pub fn client_ca_validity(&self) -> Result<Option<Validity>, String> {
        let (Some(path), Some(pem)) = (&self.files.client_ca, &self.client_ca) else {
            return Ok(None);
        };
        let all = certificates(path, pem)?;
        let all: Vec<_> = all
            .iter()
            .map(|ca| validity(ca).map_err(|error| file_error(path, &error)))
            .collect::<Result<_, _>>()?;
        Ok(all.into_iter().max_by_key(|validity| validity.until))
    }

    /// A digest of all files, to notice changes.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut parts = Vec::new();
        for part in [&self.cert[..], &self.key, self.client_ca.as_deref().unwrap_or_default()] {
            parts.extend_from_slice(digest(&SHA256, part).as_ref());
        }
        let mut whole = [0; 32];
        whole.copy_from_slice(digest(&SHA256, &parts).as_ref());
        whole
    }
}

impl std::fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsMaterial")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    trust::certificates(pem).map_err(|problem| file_error(path, &problem))
}

fn validity(certificate: &CertificateDer<'_>) -> Result<Validity, String> {
    let (_, read) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let millis = |time: x509_parser::time::ASN1Time| UnixMillis(time.timestamp().saturating_mul(1000));
    Ok(Validity {
        from: millis(read.validity().not_before),
        until: millis(read.validity().not_after),
    })
}

fn file_error(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_unusable_file() {
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
        let alpn = |protocol| good.load(protocol).unwrap().alpn_protocols;
        assert_eq!(alpn(b"h2"), [&b"h2"[..], b"http/1.1"]);
        assert_eq!(alpn(b"http/1.1"), [b"http/1.1"]);
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
            let file_error = files.load(b"h2").unwrap_err();
            assert!(file_error.contains(named), "{file_error}");
        }
    }
}
