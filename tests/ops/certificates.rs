//! Certificates and the CA of clients are replaced while the server runs, without a dropped call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::{ValidateRequest, WatchRevocationsRequest};
use nix::sys::signal::Signal;
use rstest::rstest;
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::pki::{Folder, Layout, Pair, Pki};
use crate::side_port::{get_tls, value};
use crate::support::deployment::for_tests;
use crate::support::serve::Storage;
use crate::support::{Countersign, eventually};

/// The server reads the files every second, and an invalid one twice; the machine may be busy.
const RELOAD_TIME: Duration = Duration::from_secs(30);

fn connect(server: &Countersign, pki: &Pki, identity: Option<&Pair>) -> Channel {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pki.pem()))
        .domain_name("localhost");
    if let Some(pair) = identity {
        tls = tls.identity(Identity::from_pem(&pair.cert, &pair.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{}", server.grpc())).unwrap();
    endpoint
        .timeout(Duration::from_secs(20))
        .tls_config(tls)
        .unwrap()
        .connect_lazy()
}

async fn validates(channel: Channel) -> bool {
    let request = ValidateRequest {
        access_token: "garbage".to_owned(),
        ..ValidateRequest::default()
    };
    TokenServiceClient::new(channel).validate(request).await.is_ok()
}

/// Makes calls until it is stopped, some over one connection and some over a new connection each. Counts calls and
/// failures.
struct Traffic {
    running: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn start(server: &Countersign, pki: &Pki) -> Self {
        let (running, made, failed) = (Arc::new(AtomicBool::new(true)), Arc::default(), Arc::default());
        let mut tasks = Vec::new();
        for fresh in [false, false, true, true] {
            let lasting = connect(server, pki, None);
            let url = format!("https://{}", server.grpc());
            let tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(pki.pem()))
                .domain_name("localhost");
            let (running, made, failed): (Arc<AtomicBool>, Arc<AtomicU64>, Arc<AtomicU64>) =
                (Arc::clone(&running), Arc::clone(&made), Arc::clone(&failed));
            tasks.push(tokio::spawn(async move {
                while running.load(Ordering::SeqCst) {
                    let channel = if fresh {
                        let endpoint = Endpoint::from_shared(url.clone()).unwrap();
                        endpoint.tls_config(tls.clone()).unwrap().connect_lazy()
                    } else {
                        lasting.clone()
                    };
                    made.fetch_add(1, Ordering::SeqCst);
                    if !validates(channel).await {
                        failed.fetch_add(1, Ordering::SeqCst);
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }));
        }
        Self {
            running,
            made,
            failed,
            tasks,
        }
    }

    async fn stop(self) -> (u64, u64) {
        self.running.store(false, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        (self.failed.load(Ordering::SeqCst), self.made.load(Ordering::SeqCst))
    }
}

async fn refused_files(server: &Countersign, pki: &Pki) -> Option<f64> {
    let http = server.http_url().trim_start_matches("http://").parse().unwrap();
    let (_, scrape) = get_tls(pki, http, "/metrics").await?;
    value(&scrape, "countersign_tls_files_refused")
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_without_a_dropped_call(#[values(Layout::Files, Layout::Kubernetes)] layout: Layout) {
    let pki = Pki::new();
    let storage = for_tests(Storage::embedded());
    let mut folder = Folder::new(storage.folder(), layout);
    let put = |folder: &mut Folder, pair: &Pair| folder.put(&[("tls.key", &pair.key), ("tls.crt", &pair.cert)]);
    put(&mut folder, &pki.server(1));
    let storage = storage
        .set("server.tls.cert", folder.file("tls.crt").to_str().unwrap())
        .set("server.tls.key", folder.file("tls.key").to_str().unwrap());
    let mut server = storage.serve(&[]);
    assert_eq!(pki.serial(server.grpc()).await, Some(1));

    let traffic = Traffic::start(&server, &pki);
    put(&mut folder, &pki.server(2));
    eventually("the new certificate is shown", RELOAD_TIME, || async {
        (pki.serial(server.grpc()).await == Some(2)).then_some(())
    })
    .await;

    // Invalid files change nothing and are reported.
    let (own, other) = (pki.server(3), pki.server(4));
    let half = own.cert[..own.cert.len() / 2].to_owned();
    for bad in [
        Pair {
            cert: half,
            ..own.clone()
        },
        Pair {
            key: other.key,
            ..own.clone()
        },
        // A text that is no key, and a key that is cut off.
        Pair {
            key: "garbage".to_owned(),
            ..own.clone()
        },
        Pair {
            key: own.key[..own.key.len() / 2].to_owned(),
            ..own.clone()
        },
        pki.expired(5),
        Pair {
            cert: String::new(),
            ..own.clone()
        },
    ] {
        put(&mut folder, &bad);
        eventually("the invalid files are reported", RELOAD_TIME, || async {
            (refused_files(&server, &pki).await == Some(1.0)).then_some(())
        })
        .await;
        assert_eq!(pki.serial(server.grpc()).await, Some(2), "the certificate before stays");
        put(&mut folder, &pki.server(2));
        eventually("valid files end the report", RELOAD_TIME, || async {
            (refused_files(&server, &pki).await == Some(0.0)).then_some(())
        })
        .await;
    }
    assert!(
        server.log().contains("the TLS files cannot be used"),
        "{}",
        server.log()
    );
    assert!(!server.log().contains("BEGIN"), "the log contains no key");

    // SIGHUP makes the server read the files at once, and does not end the process.
    put(&mut folder, &pki.server(6));
    server.signal(Signal::SIGHUP);
    eventually("the newest certificate is shown", RELOAD_TIME, || async {
        (pki.serial(server.grpc()).await == Some(6)).then_some(())
    })
    .await;
    let (failed, made) = traffic.stop().await;
    assert!(made > 20, "only {made} calls were made");
    assert_eq!(failed, 0, "of {made} calls");
    assert_eq!(server.stop().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_ca_for_clients_needs_no_restart() {
    let (pki, before, after) = (Pki::new(), Pki::new(), Pki::new());
    let storage = Storage::embedded();
    let mut folder = Folder::new(storage.folder(), Layout::Files);
    let own = pki.server(1);
    folder.put(&[("tls.key", &own.key), ("tls.crt", &own.cert), ("ca.crt", &before.pem())]);
    let file = storage.folder().join("countersign.toml");
    let text = format!(
        "[server]\nanonymous_scopes = []\n[server.tls]\ncert = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
         client_identities = {{ \"spiffe://example.org/watcher\" = \"watcher\" }}\n",
        folder.file("tls.crt").display(),
        folder.file("tls.key").display(),
        folder.file("ca.crt").display(),
    );
    std::fs::write(&file, text).unwrap();
    storage.run(&["migrate"]).succeed();
    storage
        .run(&["client", "add", "watcher", "--scope", "countersign:watch"])
        .succeed();
    let server = storage.serve(&["--config", file.to_str().unwrap()]);
    let (old, new) = (
        before.client("spiffe://example.org/watcher"),
        after.client("spiffe://example.org/watcher"),
    );
    // A new connection each time; only a known client may watch.
    let watch = async |identity: Option<&Pair>| {
        let mut client = TokenServiceClient::new(connect(&server, &pki, identity));
        let begun = client.watch_revocations(WatchRevocationsRequest::default()).await;
        begun.map(drop).map_err(|status| status.code())
    };
    watch(Some(&old)).await.unwrap();
    assert_eq!(watch(None).await.unwrap_err(), Code::Unauthenticated);
    assert!(watch(Some(&new)).await.is_err(), "its CA is not trusted yet");

    folder.put(&[("ca.crt", &format!("{}{}", before.pem(), after.pem()))]);
    eventually("both CAs are trusted", RELOAD_TIME, || async {
        watch(Some(&new)).await.ok()
    })
    .await;
    watch(Some(&old)).await.unwrap();

    folder.put(&[("ca.crt", &after.pem())]);
    eventually("the CA before is no longer trusted", RELOAD_TIME, || async {
        watch(Some(&old)).await.is_err().then_some(())
    })
    .await;
    watch(Some(&new)).await.unwrap();

    // An invalid file does not lock out the clients.
    folder.put(&[("ca.crt", "not a certificate")]);
    eventually("the invalid file is reported", RELOAD_TIME, || async {
        (refused_files(&server, &pki).await == Some(1.0)).then_some(())
    })
    .await;
    watch(Some(&new)).await.unwrap();
}
