//! Postgres stops or every connection to it is taken, and callers are authenticated by client certificate.
//!
//! Which client a certificate belongs to is read from Postgres, but Validate goes on without it.

use std::time::Duration;

use countersign::proto::ValidateRequest;
use countersign::proto::token_service_client::TokenServiceClient;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::support::caller::reason;
use crate::support::{PASSWORD, Servers, eventually};

const NAME: &str = "spiffe://test/gateway";
const MAX_STALENESS: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_a_certificate_validates_without_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let certificate = |name: SanType| {
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(name);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = certificate(SanType::DnsName("localhost".try_into().unwrap()));

    let mut servers = Servers::start(&[])
        .await
        .with_default_timeouts()
        .set("server.anonymous_scopes", "")
        .set("server.tls.cert", &write("cert.pem", &cert))
        .set("server.tls.key", &write("key.pem", &key))
        .set("server.tls.client_ca", &write("ca.pem", &authority.pem()))
        .set("server.tls.client_identities", &format!("{NAME}=gateway"))
        .set("revocation.max_staleness", &format!("{}s", MAX_STALENESS.as_secs()));
    let server = servers.serve().await;
    let words = [
        "client",
        "add",
        "gateway",
        "--grant",
        "client_secret",
        "--scope",
        "countersign:issue",
        "--scope",
        "countersign:validate",
    ];
    tokio::task::block_in_place(|| servers.storage.run(&words).succeed());

    let (cert, key) = certificate(SanType::URI(NAME.try_into().unwrap()));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("localhost")
        .identity(Identity::from_pem(cert, key));
    let endpoint: Endpoint = Channel::from_shared(format!("https://{}", server.grpc())).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = TokenServiceClient::new(channel);
    let login = countersign::proto::IssueRequest {
        credential: Some(countersign::proto::issue_request::Credential::Password(
            countersign::proto::PasswordCredential {
                username: "ada".into(),
                password: PASSWORD.into(),
            },
        )),
        ..Default::default()
    };
    let session = client.issue(login).await.unwrap().into_inner().tokens.unwrap();
    let request = ValidateRequest {
        access_token: session.access_token,
        ..ValidateRequest::default()
    };
    assert!(client.validate(request.clone()).await.unwrap().into_inner().active);

    let down = Instant::now();
    servers.postgres.stop(Signal::SIGQUIT);
    let mut answered = 0;
    loop {
        let asked = down.elapsed();
        match client.validate(request.clone()).await {
            Ok(answer) => assert!(answer.into_inner().active),
            Err(status) => {
                // Either can become stale first: the revocations or the cached caller. Both are correct reasons.
                assert_eq!(reason(&status).0, Code::Unavailable, "{status:?}");
                assert!(asked > MAX_STALENESS / 2, "Validate failed after only {asked:?}");
                break;
            }
        }
        answered += 1;
        assert!(asked < MAX_STALENESS * 4, "Validate never failed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "{answered} calls were answered in {:?} without Postgres",
        down.elapsed()
    );
    assert!(answered > 20, "only {answered}: each of them waited for the store");

    servers.postgres.launch();
    eventually("Validate works again", Duration::from_mins(1), || {
        let (mut client, request) = (client.clone(), request.clone());
        async move { client.validate(request).await.ok() }
    })
    .await;
}
