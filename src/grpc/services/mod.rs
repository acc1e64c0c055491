//! The services: each call is converted, given to its rule, and the answer converted back. No rule stands here.

mod audit;
pub mod authorization;
mod client;
mod codec;
mod key;
mod token;
mod user;
pub mod validate;

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tonic::codegen::Service;

use self::audit::AuditCalls;
use self::authorization::AuthorizationCalls;
use self::client::ClientCalls;
use self::key::KeyCalls;
use self::token::{TokenCalls, ValidateCalls};
use self::user::UserCalls;
use super::layers::{Call, ConcurrencyLimit, Permit, RequestBody, ResponseFuture, Routes};
use super::policy::{MAX_REQUEST, Method, OptionalServices};
use super::reflection;
use crate::account::{AuditTrail, Clients, Principal, Sessions, Users};
use crate::clock::Clock;
use crate::gateway::Gateway;
use crate::keys::manager::Keys;
use crate::model::{Caller, Error, Result};
use crate::proto::audit_service_server::AuditServiceServer;
use crate::proto::client_service_server::ClientServiceServer;
use crate::proto::key_service_server::KeyServiceServer;
use crate::proto::token_service_server::TokenServiceServer;
use crate::proto::user_service_server::UserServiceServer;
use crate::revocation::{Feed, RevocationPublisher};
use crate::store::RevocationStore;
use crate::token::Tokens;

/// The most calls that work at once, beyond those that memory answers: what more than this waits for the stores could
/// not be done before its callers give up.
const MAX_WORK: usize = 1024;

/// How long work may take whose caller did not say, as in a stream.
const PATIENCE: Duration = Duration::from_secs(10);

/// The rules that the services call.
#[expect(missing_docs, reason = "each is documented at its type")]
#[derive(Clone)]
pub struct Rules {
    pub tokens: Arc<Tokens>,
    pub gateway: Arc<Gateway<Tokens>>,
    pub users: Arc<Users>,
    pub sessions: Arc<Sessions>,
    pub clients: Arc<Clients>,
    pub trail: AuditTrail,
    pub keys: Arc<Keys>,
    pub spread: Arc<RevocationPublisher>,
    pub feed: Arc<Feed>,
    pub revocations: Arc<dyn RevocationStore>,
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rules")
    }
}

/// A service of any type.
pub type Boxed = Box<dyn Fn(Request<RequestBody>) -> ResponseFuture + Send + Sync>;

/// Every service, behind the path of its methods.
pub struct Services {
    validate: Arc<ValidateCalls>,
    token: TokenServiceServer<TokenCalls>,
    user: UserServiceServer<UserCalls>,
    client: ClientServiceServer<ClientCalls>,
    key: KeyServiceServer<KeyCalls>,
    audit: AuditServiceServer<AuditCalls>,
    authorization: Arc<AuthorizationCalls>,
    health: Boxed,
    reflection: Boxed,
    reflection_alpha: Boxed,
}

impl Services {
    /// The services over these rules, and that of [`super::health::Health::new`].
    ///
    /// # Errors
    /// `Internal` if the descriptors that reflection serves cannot be read.
    pub fn new(
        rules: &Rules,
        health: tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health>,
        optional: OptionalServices,
    ) -> Result<Self> {
        let desk = Desk {
            gate: ConcurrencyLimit::new(MAX_WORK),
            clock: rules.clock.clone(),
        };
        let current = reflection::current(optional).map_err(Error::internal)?;
        let alpha = reflection::alpha(optional).map_err(Error::internal)?;
        Ok(Self {
            validate: Arc::new(ValidateCalls::new(desk.clone(), rules)),
            token: TokenServiceServer::new(TokenCalls::new(desk.clone(), rules.clone())),
            user: UserServiceServer::new(UserCalls::new(desk.clone(), rules)),
            client: ClientServiceServer::new(ClientCalls::new(desk.clone(), rules)),
            key: KeyServiceServer::new(KeyCalls::new(desk.clone(), rules)),
            audit: AuditServiceServer::new(AuditCalls::new(desk.clone(), rules)),
            authorization: Arc::new(AuthorizationCalls::new(
                desk,
                rules.gateway.clone(),
                rules.tokens.clone(),
            )),
            health: boxed(health.max_decoding_message_size(MAX_REQUEST)),
            reflection: boxed(current.max_decoding_message_size(MAX_REQUEST)),
            reflection_alpha: boxed(alpha.max_decoding_message_size(MAX_REQUEST)),
        })
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

impl Routes for Services {
    fn route(&self, method: &'static Method, request: Request<RequestBody>) -> ResponseFuture {
        let max = method.max_request;
        match method.service {
            "countersign.v1.TokenService" if method.name.starts_with("Validate") => {
                validate::serve(&self.validate, method, request)
            }
            "countersign.v1.TokenService" => self.token.clone().max_decoding_message_size(max).call(request),
            "countersign.v1.UserService" => self.user.clone().max_decoding_message_size(max).call(request),
            "countersign.v1.ClientService" => self.client.clone().max_decoding_message_size(max).call(request),
            "countersign.v1.KeyService" => self.key.clone().max_decoding_message_size(max).call(request),
            "countersign.v1.AuditService" => self.audit.clone().max_decoding_message_size(max).call(request),
            "envoy.service.auth.v3.Authorization" => authorization::serve(&self.authorization, method, request),
            "grpc.health.v1.Health" => (self.health)(request),
            "grpc.reflection.v1.ServerReflection" => (self.reflection)(request),
            _ => (self.reflection_alpha)(request),
        }
    }
}

/// A generated service, as something that calls are given to.
pub fn boxed<S>(service: S) -> Boxed
where
    S: Service<
            Request<RequestBody>,
            Response = http::Response<tonic::body::Body>,
            Error = std::convert::Infallible,
            Future = ResponseFuture,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    Box::new(move |request| service.clone().call(request))
}

/// Where calls come in that have more to do than look something up in memory.
#[derive(Clone, Debug)]
struct Desk {
    gate: ConcurrencyLimit,
    clock: Arc<dyn Clock>,
}

/// A call that is being worked on.
struct Working<T> {
    message: T,
    caller: Caller,
    /// Until when the caller waits: a moment of the clock's monotonic time.
    deadline: Duration,
    _pass: Permit,
}

impl Desk {
    fn take<T>(&self, request: tonic::Request<T>) -> Result<Working<T>> {
        let pass = self.gate.acquire()?;
        let call = Call::of(&request)?;
        Ok(Working {
            caller: call.caller(),
            deadline: self.clock.monotonic() + call.remaining(PATIENCE),
            message: request.into_inner(),
            _pass: pass,
        })
    }
}

impl<T> Working<T> {
    /// On whose behalf the rules of `account` run.
    fn principal(&self) -> Principal {
        Principal::from(&self.caller)
    }
}
