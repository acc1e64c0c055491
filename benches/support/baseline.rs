//! Baseline servers: they receive the same requests and return responses of the same size, with little or no work.

use std::convert::Infallible;
use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use countersign::keys::public::PublicKey;
use countersign::proto::{RefreshRequest, ValidateRequest};
use fred::clients::Pool;
use fred::interfaces::ClientLike as _;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::cores;
use super::generator::{Target, Transport};
use crate::support;

/// A response of any size.
#[derive(Clone, PartialEq, Message)]
pub struct Filler {
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: Bytes,
}

/// A running baseline server. Dropping it ends the process.
pub struct Baseline {
    child: Child,
    pub address: SocketAddr,
}

impl Baseline {
    /// Calls of this method, beside others.
    pub fn target(&self, path: &'static str) -> Target {
        Target {
            transport: Transport::Tcp,
            address: self.address,
            path,
            bearer: "Bearer none".to_owned(),
            pid: self.pid(),
            alone: false,
        }
    }

    /// Starts an empty service with responses of `size` bytes.
    pub fn empty(size: usize) -> Self {
        Self::start(&["bare-empty", &size.to_string()])
    }

    /// Starts a service that only checks the signature of the token with this Ed25519 key (base64url).
    pub fn verifying(size: usize, key: &str) -> Self {
        Self::start(&["bare-verify", &size.to_string(), key])
    }

    /// Starts a service that runs one indexed SELECT and one EVALSHA for each call, and then makes a signature and an HMAC if
    /// it `signs`.
    pub fn refresh(database: &str, redis: &str, signs: bool) -> Self {
        Self::start(&["bare-refresh", database, redis, if signs { "signs" } else { "" }])
    }

    fn start(words: &[&str]) -> Self {
        let own = std::env::current_exe().unwrap();
        let spawn = || Command::new(own).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut child = cores::on_server_core(spawn);
        support::guard::watch(child.id(), support::guard::Ending::Kill);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut line).unwrap();
        let address = line.trim().parse().expect("the server prints its address");
        Self { child, address }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Baseline {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
        support::guard::forget(&[self.child.id()]);
    }
}

/// Runs the empty service until the process is killed.
pub fn empty(size: usize) {
    serve(EmptyService(filler(size)));
}

fn filler(size: usize) -> Filler {
    // The field has a tag and a length, which take three bytes.
    let bytes = Bytes::from(vec![7; size.saturating_sub(3)]);
    Filler { bytes }
}

#[derive(Clone)]
struct EmptyService(Filler);

impl UnaryService<ValidateRequest> for EmptyService {
    type Response = Filler;
    type Future = std::future::Ready<Result<Response<Filler>, Status>>;

    fn call(&mut self, _: Request<ValidateRequest>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.0.clone())))
    }
}

/// Runs the service that checks signatures until the process is killed.
pub fn verify(size: usize, key: &str) {
    let key = PublicKey::ed25519(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
    serve(VerifyingService(Arc::new(key), filler(size)));
}

#[derive(Clone)]
struct VerifyingService(Arc<PublicKey>, Filler);

impl UnaryService<ValidateRequest> for VerifyingService {
    type Response = Filler;
    type Future = std::future::Ready<Result<Response<Filler>, Status>>;

    fn call(&mut self, request: Request<ValidateRequest>) -> Self::Future {
        let (signed, signature) = request.get_ref().access_token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        assert!(self.0.verifies(signed.as_bytes(), &signature));
        std::future::ready(Ok(Response::new(self.1.clone())))
    }
}

/// Runs the service with one SELECT and one EVALSHA until the process is killed.
pub fn refresh(database: &str, redis: &str, signs: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let stores = runtime.block_on(StoresService::open(database, redis, signs));
    serve_on(&runtime, stores);
}

const SCRIPT: &str =
    "local v = redis.call('HGET', KEYS[1], ARGV[1]) redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) return v";

#[derive(Clone)]
struct StoresService {
    database: sqlx::PgPool,
    redis: Pool,
    sha: Arc<str>,
    signer: Option<Arc<(Ed25519KeyPair, hmac::Key)>>,
    response: Filler,
}

impl StoresService {
    async fn open(database: &str, redis: &str, signs: bool) -> Self {
        // The default sizes of the pools of this service, `storage.database_pool` and `storage.redis_pool`.
        let database = sqlx::postgres::PgPoolOptions::new()
            .max_connections(16)
            .connect(database)
            .await
            .unwrap();
        let config = Config::from_url(redis).unwrap();
        let redis = Builder::from_config(config).build_pool(4).unwrap();
        redis.init().await.unwrap();
        let load = CustomCommand::new_static("SCRIPT", ClusterHash::FirstKey, false);
        let sha: String = redis.next().custom(load, vec!["LOAD", SCRIPT]).await.unwrap();
        Self {
            database,
            redis,
            sha: sha.into(),
            signer: signs.then(|| {
                let tag = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
                Arc::new((Ed25519KeyPair::generate().unwrap(), tag))
            }),
            response: Filler {
                bytes: Bytes::from(vec![7; 1000]),
            },
        }
    }
}

impl UnaryService<RefreshRequest> for StoresService {
    type Response = Filler;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Filler>, Status>> + Send>>;

    fn call(&mut self, _: Request<RefreshRequest>) -> Self::Future {
        let stores = self.clone();
        Box::pin(async move {
            let failed = |error: &dyn std::fmt::Display| Status::internal(error.to_string());
            let row: (String,) = sqlx::query_as("SELECT id FROM clients WHERE id = $1")
                .bind("default")
                .fetch_one(&stores.database)
                .await
                .map_err(|error| failed(&error))?;
            let words = vec![
                stores.sha.to_string(),
                "1".into(),
                "bare".into(),
                row.0,
                "v".repeat(200),
            ];
            let evalsha = CustomCommand::new_static("EVALSHA", ClusterHash::FirstKey, false);
            let response: Result<Option<String>, _> = stores.redis.next().custom(evalsha, words).await;
            response.map_err(|error| failed(&error))?;
            if let Some(signer) = &stores.signer {
                // As long as the signed part of an access token, and a refresh token.
                std::hint::black_box(signer.0.sign(&[7; 480]));
                std::hint::black_box(hmac::sign(&signer.1, &[7; 150]));
            }
            Ok(Response::new(stores.response.clone()))
        })
    }
}

/// The type of the requests of a service.
trait HasRequest: Clone + Send + Sync + 'static {
    type Request: Message + Default + 'static;
}

impl HasRequest for EmptyService {
    type Request = ValidateRequest;
}

impl HasRequest for VerifyingService {
    type Request = ValidateRequest;
}

impl HasRequest for StoresService {
    type Request = RefreshRequest;
}

/// A service like a generated one, which answers each method of its name.
#[derive(Clone)]
struct AnyMethod<S>(S);

impl<S> NamedService for AnyMethod<S> {
    const NAME: &'static str = "countersign.v1.TokenService";
}

impl<S> Service<http::Request<Body>> for AnyMethod<S>
where
    S: HasRequest + UnaryService<S::Request, Response = Filler>,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<Filler, S::Request>::default());
            Ok(grpc.unary(service, request).await)
        })
    }
}

fn serve<S>(service: S)
where
    S: HasRequest + UnaryService<S::Request, Response = Filler>,
    S::Future: Send,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    serve_on(&runtime, service);
}

fn serve_on<S>(runtime: &tokio::runtime::Runtime, service: S)
where
    S: HasRequest + UnaryService<S::Request, Response = Filler>,
    S::Future: Send,
{
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        std::io::stdout().flush().unwrap();
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        tonic::transport::Server::builder()
            .add_service(AnyMethod(service))
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}
