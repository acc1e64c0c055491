//! Small requests that expand to much more than their method allows.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::Code;

use crate::support::{Caller, Countersign, Deployment, DeploymentKind};

/// A gzip text of this many MiB: members of 1 MiB, each of which takes a kilobyte.
fn bomb(mebibytes: usize) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&vec![0; 1 << 20]).unwrap();
    encoder.finish().unwrap().repeat(mebibytes)
}

/// Sends these requests at once on one connection; returns their codes.
async fn call(server: &Countersign, method: &str, compressed: &[u8], times: usize) -> Vec<Code> {
    let length = u32::try_from(compressed.len()).unwrap();
    let body: Bytes = [&[1][..], &length.to_be_bytes(), compressed].concat().into();
    let io = TokioIo::new(TcpStream::connect(server.grpc()).await.unwrap());
    let (send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let calls = (0..times).map(|_| {
        let mut send = send.clone();
        let request = http::Request::post(format!("http://localhost/countersign.v1.{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-encoding", "gzip")
            .body(Full::new(body.clone()))
            .unwrap();
        async move {
            let (head, body) = send.send_request(request).await.unwrap().into_parts();
            let mut headers = head.headers;
            // The server may reset a request that it has answered before its end.
            let trailers = body.collect().await.ok().and_then(|body| body.trailers().cloned());
            headers.extend(trailers.unwrap_or_default());
            Code::from_bytes(headers["grpc-status"].as_bytes())
        }
    });
    join_all(calls).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_expand_beyond_their_limit_are_refused_and_take_little_memory() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    let before = server.resident_kib();

    // 40 requests of 1.8 GiB together, of methods with a scope and without.
    let (large, small) = (bomb(60), bomb(30));
    let flood = async {
        for _ in 0..2 {
            let (batches, keys) = tokio::join!(
                call(&server, "TokenService/ValidateBatch", &large, 10),
                call(&server, "TokenService/GetKeys", &small, 10)
            );
            for code in batches {
                assert!(matches!(code, Code::OutOfRange | Code::ResourceExhausted), "{code:?}");
            }
            assert!(keys.iter().all(|code| *code == Code::OutOfRange), "{keys:?}");
        }
    };
    let mut peak = before;
    tokio::pin!(flood);
    loop {
        tokio::select! {
            () = &mut flood => break,
            () = tokio::time::sleep(Duration::from_millis(5)) => peak = peak.max(server.resident_kib()),
        }
    }
    peak = peak.max(server.resident_kib());
    println!("resident before: {before} KiB, at most: {peak} KiB");
    assert!(peak < before + 128 * 1024, "{before} KiB, then {peak} KiB");
    caller.assert_active(&tokens.access_token).await;
}
