//! Validate for callers that send no token: a client that is known by its certificate, and the callers of an agent.

use std::path::Path;
use std::sync::Arc;

use countersign::model::Algorithm;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::baseline::Baseline;
use crate::cases::{ANSWER, STREAMS, VALIDATE, alternate, requests, warm_up};
use crate::cores;
use crate::figures::{cpu, speed};
use crate::generator::{Target, Transport};
use crate::report::ReportRow;
use crate::server::Server;
use crate::support::agent::{Agent, listen_anywhere};
use crate::support::guard;
use crate::support::serve::Storage;

/// The name in the certificate of the client.
const NAME: &str = "spiffe://example.org/bench";

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self, name: SanType) -> Pair {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(name);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    /// The side of a client that trusts this authority and shows this certificate, if any.
    fn client(&self, own: Option<&Pair>) -> Transport {
        let certificate = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate(&self.0.pem())).unwrap();
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
        let mut config = match own {
            Some(own) => {
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
                config
                    .with_client_auth_cert(vec![certificate(&own.certificate)], key)
                    .unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Transport::Tls(Arc::new(config))
    }
}

/// A server over TLS, and targets of its two kinds of callers: by certificate, and by token.
async fn over_tls() -> (Server, Target, Target) {
    let authority = Authority::new();
    let folder = guard::scratch("tls");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let own = authority.certificate(SanType::DnsName("localhost".try_into().unwrap()));
    let ca = file("ca.pem", &authority.0.pem());
    let storage = Storage::embedded()
        .set("server.tls.cert", &file("cert.pem", &own.certificate))
        .set("server.tls.key", &file("key.pem", &own.key))
        .set("server.tls.client_ca", &ca)
        .set("server.tls.client_identities", &format!("{NAME}=bench"));
    let server = Server::start_on(storage, Algorithm::EdDsa, Some(Path::new(&ca))).await;
    let client = authority.certificate(SanType::URI(NAME.try_into().unwrap()));
    let by_certificate = Target {
        transport: authority.client(Some(&client)),
        bearer: String::new(),
        ..server.target(VALIDATE)
    };
    let by_token = Target {
        transport: authority.client(None),
        ..server.target(VALIDATE)
    };
    (server, by_certificate, by_token)
}

/// An agent of the server that listens on this address, and its target.
async fn agent(server: &Server, listen: &str) -> (Agent, Target) {
    let agent = cores::on_server_core(|| Agent::start(&server.storage, &server.process, listen, &[]));
    agent.caller().await;
    let target = Target {
        transport: match listen.strip_prefix("unix:") {
            Some(path) => Transport::Unix(path.into()),
            None => Transport::Tcp,
        },
        address: listen.parse().unwrap_or(server.process.grpc()),
        bearer: String::new(),
        pid: agent.process.pid(),
        ..server.target(VALIDATE)
    };
    (agent, target)
}

pub async fn validate() -> Vec<ReportRow> {
    let (server, other_server) = (Server::start().await, Server::start().await);
    let empty = Baseline::empty(ANSWER);
    let theirs = server.against(&empty, VALIDATE);
    let (tls, by_certificate, by_token) = over_tls().await;
    let (_agent, at_agent) = agent(&server, &listen_anywhere()).await;
    let socket = format!("unix:{}", guard::scratch("socket").join("s").display());
    let (_other_agent, at_socket) = agent(&other_server, &socket).await;
    let [warm, warm_other, warm_tls] = [&server, &other_server, &tls].map(|server| requests(&server.tokens(1000)));
    for (target, requests) in [
        (&by_certificate, &warm_tls),
        (&by_token, &warm_tls),
        (&at_agent, &warm),
        (&at_socket, &warm_other),
    ] {
        warm_up(target, requests).await;
    }
    let all = [
        (&by_certificate, &warm_tls),
        (&by_token, &warm_tls),
        (&at_agent, &warm),
        (&at_socket, &warm_other),
        (&theirs, &warm),
    ];
    let [certificate, token, agent, socket, empty] = alternate(all, STREAMS).await;
    let (empty_speed, empty_cpu) = (speed(&empty), cpu(&empty));
    let mut rows = vec![ReportRow::new(
        "Validate by certificate (against by token), both over TLS",
        "calls/s",
        speed(&certificate),
        speed(&token),
    )];
    for (name, rounds) in [
        ("Validate by certificate over TLS", &certificate),
        ("Validate by token over TLS", &token),
        ("Validate at an agent, without a token", &agent),
        ("Validate at an agent's socket, without a token", &socket),
    ] {
        let against = format!("{name} (against an empty call with a token over TCP)");
        rows.push(ReportRow::new(against, "calls/s", speed(rounds), empty_speed));
        rows.push(ReportRow::new(
            format!("{name}: CPU"),
            "µs/call",
            cpu(rounds),
            empty_cpu,
        ));
    }
    rows
}
