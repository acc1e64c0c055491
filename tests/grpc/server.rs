//! A server whose service follows instructions in the request, and clients for it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign::grpc::connection::GrpcHandler;
use countersign::grpc::health::{ComponentHealth, Health};
use countersign::grpc::layers::{
    Authentication, Authenticator, CallLimits, Credential, Deadlines, Pipeline, RequestBody, RequestIds,
    ResponseFuture, Routes,
};
use countersign::grpc::policy::{Method, OptionalServices, Policy};
use countersign::listener::{Limits, PeerName, Security};
use countersign::model::audit::Origin;
use countersign::model::{Caller, ErrorKind, Identity};
use countersign::proto;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::token_service_server::TokenServiceServer;
use countersign::secret::SystemEntropy;
use countersign::shutdown::Stop;
use futures_util::stream::BoxStream;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::codegen::Service as _;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_health::pb::health_server::HealthServer;

use crate::service::Service;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) observed: Arc<Observed>,
    pub(crate) ended: JoinHandle<()>,
}

/// Counters of the calls that reached the service.
#[derive(Default)]
pub(crate) struct Observed {
    /// The number of calls that reached it.
    pub(crate) begun: AtomicUsize,
    /// The number of sleeps that were dropped before they ended.
    pub(crate) dropped: AtomicUsize,
    /// Whether the token "fading" has been revoked.
    pub(crate) faded: std::sync::atomic::AtomicBool,
    /// The messages of `WatchRevocations`, if a test sets them.
    pub(crate) feed: std::sync::Mutex<Option<Feed>>,
}

/// Gives the messages of a stream, by its resume token.
pub(crate) type Feed = Arc<dyn Fn(&str) -> BoxStream<'static, proto::WatchRevocationsResponse> + Send + Sync>;

impl Observed {
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

/// The configuration of a server.
pub(crate) struct ServerSettings {
    pub(crate) security: Security,
    pub(crate) max_connections: usize,
    pub(crate) max_per_source: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) deadlines: Deadlines,
    pub(crate) reflection: bool,
    pub(crate) limits: CallLimits,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            security: Security::Plain,
            max_connections: 64,
            max_per_source: 64,
            drain_timeout: Duration::from_secs(5),
            deadlines: Deadlines {
                default: Duration::from_secs(30),
                max: Duration::from_mins(1),
            },
            reflection: true,
            limits: CallLimits::default(),
        }
    }
}

impl Server {
    pub(crate) async fn start(setup: ServerSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Stop::new();
        let observed = Arc::new(Observed::default());
        let (health, health_server) = Health::new(stop.clone()).await;
        health
            .report(ComponentHealth {
                users: true,
                writes: true,
                sessions: true,
                revocations: true,
            })
            .await;
        let pipeline = Pipeline::new(
            Box::new(TestRoutes::new(observed.clone(), health_server)),
            Arc::new(AuthenticatorByName(observed.clone())),
            Policy::new(OptionalServices {
                reflection: setup.reflection,
                ext_authz: false,
            }),
            setup.deadlines,
            RequestIds::new(&SystemEntropy),
            stop.clone(),
        )
        .with_limits(&setup.limits);
        let grpc = Arc::new(GrpcHandler::new(Arc::new(pipeline), Arc::new(SystemEntropy)));
        let limits = Limits {
            max_per_source: setup.max_per_source,
            ..Limits::new(setup.max_connections, setup.drain_timeout)
        };
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { countersign::grpc::serve(listener, setup.security, limits, grpc, &health, &stop).await }
        });
        Self {
            address,
            stop,
            observed,
            ended,
        }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        endpoint.connect().await.unwrap()
    }

    pub(crate) async fn client(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel().await)
    }
}

/// Authenticates by the bearer text: "validator", "user-manager", "fading", and "ada" who is a user.
struct AuthenticatorByName(Arc<Observed>);

impl Authenticator for AuthenticatorByName {
    fn authenticate(&self, credential: Credential<'_>) -> Authentication {
        let machine = |scopes: &[&str]| {
            let caller = Caller {
                identity: Identity::Machine {
                    client: "machine".parse().unwrap(),
                },
                scopes: scopes.iter().map(ToString::to_string).collect(),
                origin: Origin {
                    actor: "machine".into(),
                    ..Origin::default()
                },
            };
            Ok(Arc::new(caller))
        };
        let good = !self.0.faded.load(Ordering::SeqCst);
        let names: Vec<_> = credential.peer.names.iter().map(PeerName::as_str).collect();
        Authentication::Ready(match (credential.bearer, names.as_slice()) {
            (Some("validator"), _) => machine(&["countersign:validate"]),
            (Some("user-manager"), _) => machine(&["countersign:users"]),
            (Some("fading"), _) if good => machine(&["countersign:watch"]),
            (Some("ada"), _) => Ok(Arc::new(Caller {
                identity: Identity::Person {
                    user: uuid::Uuid::nil().to_string().parse().unwrap(),
                    session: uuid::Uuid::nil().to_string().parse().unwrap(),
                    admin: false,
                },
                scopes: vec![],
                origin: Origin::default(),
            })),
            (Some("slow"), _) => {
                return Authentication::Pending(Box::pin(async {
                    tokio::time::sleep(Duration::from_millis(30)).await;
                    Err(ErrorKind::StoreUnavailable.into())
                }));
            }
            (Some(_), _) => Err(ErrorKind::CallerUnauthenticated.into()),
            (None, ["spiffe://test/watcher"]) => {
                let caller = if good {
                    machine(&["countersign:watch"])
                } else {
                    Err(ErrorKind::CallerUnauthenticated.into())
                };
                return Authentication::Pending(Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    caller
                }));
            }
            (None, _) => Ok(Arc::new(Caller {
                identity: Identity::Anonymous,
                scopes: vec!["countersign:validate".into(), "countersign:refresh".into()],
                origin: Origin::default(),
            })),
        })
    }

    fn anonymous(&self) -> Arc<Caller> {
        Arc::new(Caller {
            identity: Identity::Anonymous,
            scopes: Vec::new(),
            origin: Origin::default(),
        })
    }
}

/// Routes to [`Service`].
struct TestRoutes {
    token: TokenServiceServer<Service>,
    health: Box<dyn Fn(http::Request<RequestBody>) -> ResponseFuture + Send + Sync>,
    reflection: Box<dyn Fn(http::Request<RequestBody>) -> ResponseFuture + Send + Sync>,
    reflection_alpha: Box<dyn Fn(http::Request<RequestBody>) -> ResponseFuture + Send + Sync>,
}

impl TestRoutes {
    fn new(observed: Arc<Observed>, health: HealthServer<impl tonic_health::pb::health_server::Health>) -> Self {
        let optional = OptionalServices {
            reflection: true,
            ext_authz: false,
        };
        let current = countersign::grpc::reflection::current(optional).unwrap();
        let alpha = countersign::grpc::reflection::alpha(optional).unwrap();
        Self {
            token: TokenServiceServer::new(Service(observed)),
            health: Box::new(move |request| health.clone().call(request)),
            reflection: Box::new(move |request| current.clone().call(request)),
            reflection_alpha: Box::new(move |request| alpha.clone().call(request)),
        }
    }
}

impl Routes for TestRoutes {
    fn route(&self, method: &'static Method, request: http::Request<RequestBody>) -> ResponseFuture {
        match method.service {
            "countersign.v1.TokenService" => self
                .token
                .clone()
                .max_decoding_message_size(method.max_request)
                .call(request),
            "grpc.health.v1.Health" => (self.health)(request),
            "grpc.reflection.v1.ServerReflection" => (self.reflection)(request),
            "grpc.reflection.v1alpha.ServerReflection" => (self.reflection_alpha)(request),
            _ => Box::pin(async { Ok::<_, Infallible>(Status::unimplemented("not here").into_http()) }),
        }
    }
}

/// A refresh request with an instruction for the service.
pub(crate) fn instruction(order: &str) -> proto::RefreshRequest {
    proto::RefreshRequest {
        refresh_token: order.to_owned(),
        ..proto::RefreshRequest::default()
    }
}

/// The request with a bearer token.
pub(crate) fn with_bearer<T>(message: T, name: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {name}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// The reason of an error.
pub(crate) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// Waits until `done`, for at most ten seconds.
pub(crate) async fn until(condition: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {condition}");
}

/// Calls a method of `TokenService` with this header, without a deadline of the client; returns the code.
pub(crate) async fn raw_call(
    server: &Server,
    method: &str,
    header: (&str, &str),
    message: impl prost::Message,
) -> Code {
    let path = format!("/countersign.v1.TokenService/{method}");
    raw_call_at(server, &path, header, message).await
}

/// Like [`raw_call`], for any service.
pub(crate) async fn raw_call_at(
    server: &Server,
    path: &str,
    header: (&str, &str),
    message: impl prost::Message,
) -> Code {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let io = TokioIo::new(tokio::net::TcpStream::connect(server.address).await.unwrap());
    let (mut send, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header(header.0, header.1)
        .body(Full::<bytes::Bytes>::new(
            crate::frames::message(&message.encode_to_vec()).into(),
        ));
    let (head, body) = send.send_request(request.unwrap()).await.unwrap().into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned();
    let code = head.headers.get("grpc-status").cloned();
    let code = code.or_else(|| trailers.and_then(|trailers| trailers.get("grpc-status").cloned()));
    Code::from_bytes(code.unwrap().as_bytes())
}
