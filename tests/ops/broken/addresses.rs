//! The addresses to listen on, and the certificate.

use std::net::TcpListener;

use super::{Broken, Refuses, Starts, complaints, embedded};
use crate::pki::{Folder, Layout, Pair, Pki};
use crate::support::serve::Storage;

#[test]
fn faults_of_addresses_and_certificates_are_named_with_their_cure() {
    let (pki, base) = (Pki::new(), embedded());
    let mut folder = Folder::new(base.folder(), Layout::Files);
    let storage = base
        .set("server.tls.cert", folder.file("tls.crt").to_str().unwrap())
        .set("server.tls.key", folder.file("tls.key").to_str().unwrap());

    let mut put = |pair: &Pair| folder.put(&[("tls.key", &pair.key), ("tls.crt", &pair.cert)]);
    put(&pki.expired(1));
    Broken {
        name: "the certificate has expired",
        storage: storage.clone(),
        check: ("certificate", "FAILED"),
        code: 1,
        says: &["tls.crt has expired", "replace"],
        serve: Starts,
    }
    .check();
    let other = pki.server(2).key;
    put(&Pair {
        key: other,
        ..pki.server(3)
    });
    Broken {
        name: "the key belongs to another certificate",
        storage: storage.clone(),
        check: ("certificate", "MISCONFIGURED"),
        code: 64,
        says: &["tls.crt"],
        serve: Refuses(64, "tls.crt"),
    }
    .check();
    put(&pki.server(4));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    for broken in [
        Broken {
            name: "the certificate is missing",
            storage: storage.clone().set("server.tls.cert", "/nowhere/tls.crt"),
            check: ("certificate", "MISCONFIGURED"),
            code: 64,
            says: &["/nowhere/tls.crt", "No such file"],
            serve: Refuses(64, "/nowhere/tls.crt"),
        },
        Broken {
            name: "the port is taken",
            storage: embedded().set("server.listen", &taken),
            check: ("listeners", "WARNING"),
            code: 0,
            says: &["another process listens on", "ss -ltnp"],
            serve: Starts,
        },
        Broken {
            name: "the address is not one of this machine",
            storage: storage
                .set("server.listen", "192.0.2.1:50051")
                .set("server.anonymous_scopes", ""),
            check: ("listeners", "UNREACHABLE"),
            code: 69,
            says: &[
                "server.listen: 192.0.2.1:50051",
                "does not have that address",
                "0.0.0.0",
            ],
            serve: Starts,
        },
        Broken {
            name: "the folder of the socket does not exist",
            storage: embedded().set("server.listen", "unix:/nowhere/cs.sock"),
            check: ("listeners", "UNREACHABLE"),
            code: 69,
            says: &["server.listen: unix:/nowhere/cs.sock", "folder of the socket"],
            serve: Starts,
        },
    ] {
        broken.check();
    }
    // The tests' own `serve` names other ports, so these are started as configured.
    for (listen, words) in [(taken.as_str(), "ss -ltnp"), ("192.0.2.1:50051", "0.0.0.0")] {
        let refused = embedded().run(&["serve", "--insecure", "--listen", listen]).finish();
        assert_eq!(refused.code(), Some(69), "{}", refused.stderr);
        let lines = complaints(&refused.stderr);
        assert!(
            matches!(&lines[..], [line] if line.contains(words)),
            "{}",
            refused.stderr
        );
    }
    drop(listener);
}

/// A server of this deployment runs, so its ports are taken by the right process.
#[test]
fn a_running_server_is_no_fault() {
    let storage = Storage::embedded();
    let server = storage.serve(&[]);
    let storage = storage
        .set("server.listen", &server.grpc().to_string())
        .set("server.http_listen", &server.http_url().replace("http://", ""));
    let said = storage.run(&["doctor"]).succeed();
    assert!(said.contains("a server answers at"), "{said}");
    assert!(said.lines().all(|line| line.starts_with("ok ")), "{said}");
}
