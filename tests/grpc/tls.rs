//! TLS, and callers authenticated by certificate.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use countersign::listener::{Security, TlsFiles};
use countersign::proto;
use countersign::proto::token_service_client::TokenServiceClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

use crate::server::{Server, ServerSettings};

struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self {
            ca,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn certificate(&self, name: SanType) -> (String, String) {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self, name: &str) -> rustls::ServerConfig {
        let write = |name: &str, text: &str| {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let (cert, key) = self.certificate(SanType::DnsName(name.try_into().unwrap()));
        let files = TlsFiles {
            cert: write("cert.pem", &cert),
            key: write("key.pem", &key),
            client_ca: Some(write("ca.pem", &self.ca.pem())),
        };
        files.load(b"h2").unwrap()
    }

    async fn client(
        &self,
        server: &Server,
        name: &str,
        identity: Option<(String, String)>,
    ) -> Result<TokenServiceClient<Channel>, tonic::transport::Error> {
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.ca.pem()))
            .domain_name(name);
        if let Some((cert, key)) = identity {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let endpoint = Channel::from_shared(format!("https://{}", server.address)).unwrap();
        Ok(TokenServiceClient::new(endpoint.tls_config(tls)?.connect().await?))
    }
}

#[tokio::test]
async fn a_certificate_authenticates_its_client_and_is_optional() {
    let pki = Pki::new();
    let setup = ServerSettings {
        security: Security::Tls(Arc::new(ArcSwap::from_pointee(pki.server("localhost")))),
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    let identity = pki.certificate(SanType::URI("spiffe://test/watcher".try_into().unwrap()));
    let mut known = pki.client(&server, "localhost", Some(identity)).await.unwrap();
    let begun = known.watch_revocations(proto::WatchRevocationsRequest::default()).await;
    let mut watched = begun.unwrap().into_inner();
    assert!(watched.message().await.is_ok());
    let mut anonymous = pki.client(&server, "localhost", None).await.unwrap();
    let error = anonymous
        .watch_revocations(proto::WatchRevocationsRequest::default())
        .await;
    assert_eq!(error.unwrap_err().code(), Code::Unauthenticated);
    // The handshake refuses a certificate of another CA; its owner does not become an anonymous caller.
    let untrusted = Pki::new().certificate(SanType::URI("spiffe://test/watcher".try_into().unwrap()));
    if let Ok(mut untrusted) = pki.client(&server, "localhost", Some(untrusted)).await {
        assert!(untrusted.get_keys(proto::GetKeysRequest {}).await.is_err());
    }
    // The stream ends when the client of the certificate loses its scope.
    server.observed.faded.store(true, Ordering::SeqCst);
    let ended = loop {
        if let Err(ended) = watched.message().await {
            break ended;
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated);
}

/// What the server answers to a request of HTTP/1.1: over TLS with these protocols offered, or without TLS.
async fn http1(pki: &Pki, server: &Server, offered: Option<&[&[u8]]>) -> String {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut answer = Vec::new();
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    if let Some(offered) = offered {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(pki.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = "localhost".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(REQUEST).await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    } else {
        stream.write_all(REQUEST).await.unwrap();
        stream.read_to_end(&mut answer).await.unwrap();
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn http1_is_told_over_tls_that_it_has_reached_a_grpc_port_and_without_tls_that_it_needs_it() {
    let pki = Pki::new();
    let setup = ServerSettings {
        security: Security::Tls(Arc::new(ArcSwap::from_pointee(pki.server("localhost")))),
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    for (offered, word) in [
        (Some(&[&b"http/1.1"[..]][..]), "gRPC"),
        (Some(&[]), "gRPC"),
        (None, "https://"),
    ] {
        let answer = http1(&pki, &server, offered).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{offered:?}: {answer}"
        );
        assert!(answer.contains(word), "{offered:?}: {answer}");
    }
    // A client that offers both gets HTTP/2.
    let mut known = pki.client(&server, "localhost", None).await.unwrap();
    assert!(known.get_keys(proto::GetKeysRequest {}).await.is_ok());
}

#[tokio::test]
async fn a_new_certificate_needs_no_restart_and_a_silent_handshake_ends() {
    let pki = Pki::new();
    let config = Arc::new(ArcSwap::from_pointee(pki.server("before")));
    let setup = ServerSettings {
        security: Security::Tls(config.clone()),
        ..ServerSettings::default()
    };
    let server = Server::start(setup).await;
    let mut before = pki.client(&server, "before", None).await.unwrap();
    config.store(Arc::new(pki.server("after")));
    assert!(pki.client(&server, "before", None).await.is_err());
    assert!(pki.client(&server, "after", None).await.is_ok());
    assert!(
        before.get_keys(proto::GetKeysRequest {}).await.is_ok(),
        "open connections are kept"
    );

    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    let read = tokio::time::timeout(Duration::from_secs(20), silent.read(&mut [0; 1])).await;
    assert!(!matches!(read, Ok(Ok(1))));
    assert!((4..9).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
