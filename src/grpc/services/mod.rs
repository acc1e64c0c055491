//! The services: each call is converted, given to its operation, and the result converted back. They contain no rules.

mod audit;
pub mod authorization;
mod client;
mod codec;
mod key;
mod token;
mod user;
pub mod validate;
mod verdicts;

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tonic::codegen::Service;

pub(crate) use self::audit::AuditCalls;
pub(crate) use self::authorization::AuthorizationCalls;
pub(crate) use self::client::ClientCalls;
pub(crate) use self::key::KeyCalls;
pub(crate) use self::token::{TokenCalls, ValidateCalls, WatchSource};
pub(crate) use self::user::UserCalls;
pub(crate) use self::verdicts::describe;
use super::layers::{Call, ConcurrencyLimit, Permit, RequestBody, ResponseFuture, Routes};
use super::policy::Method;
use crate::account::Principal;
use crate::clock::{Clock, Deadline};
use crate::model::{Caller, Error, Result};
use crate::proto::audit_service_server::AuditServiceServer;
use crate::proto::client_service_server::ClientServiceServer;
use crate::proto::key_service_server::KeyServiceServer;
use crate::proto::token_service_server::TokenServiceServer;
use crate::proto::user_service_server::UserServiceServer;
use crate::revocation::Feed;

/// The most calls at once that need more than memory. More calls than this would wait for the stores longer than their
/// callers do.
const MAX_ADMITTED: usize = 1024;

/// How long a call without a deadline may take, such as one of a stream.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A service whose type is erased.
pub type Boxed = Box<dyn Fn(Request<RequestBody>) -> ResponseFuture + Send + Sync>;

/// Every service, by the path of its methods. The composition root fills it in.
pub(crate) struct Services {
    pub(crate) validate: Arc<ValidateCalls>,
    pub(crate) token: TokenServiceServer<TokenCalls>,
    pub(crate) user: UserServiceServer<UserCalls>,
    pub(crate) client: ClientServiceServer<ClientCalls>,
    pub(crate) key: KeyServiceServer<KeyCalls>,
    pub(crate) audit: AuditServiceServer<AuditCalls>,
    pub(crate) authorization: Arc<AuthorizationCalls>,
    pub(crate) health: Boxed,
    pub(crate) reflection: Boxed,
    pub(crate) reflection_alpha: Boxed,
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
            "countersign.v1.TokenService" if matches!(method.name, "Validate" | "ValidateBatch") => {
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
            "grpc.reflection.v1alpha.ServerReflection" => (self.reflection_alpha)(request),
            _ => not_routed(method),
        }
    }
}

/// The response for a method of the policy table that no service implements: a defect, which tests would find.
pub fn not_routed(method: &'static Method) -> ResponseFuture {
    tracing::error!(method = method.path, "no service is routed for this method");
    Box::pin(async { Ok(tonic::Status::unimplemented("this method is not implemented").into_http()) })
}

/// Erases the type of a generated service.
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

/// Admits calls that need more than memory, as many at once as can be done before their callers give up.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limit: ConcurrencyLimit,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
}

/// An admitted call.
struct AdmittedCall<T> {
    message: T,
    caller: Caller,
    /// Until when the caller waits, by the monotonic clock.
    deadline: Duration,
    _permit: Permit,
}

impl Admission {
    /// An admission with its limit unused.
    pub(crate) fn new(feed: Arc<Feed>, clock: Arc<dyn Clock>) -> Self {
        Self {
            limit: ConcurrencyLimit::new(MAX_ADMITTED),
            feed,
            clock,
        }
    }

    /// Admits a call. `OVERLOADED` if too many are being worked on.
    fn admit<T>(&self, request: tonic::Request<T>) -> Result<AdmittedCall<T>> {
        let permit = self.permit()?;
        let call = Call::of(&request)?;
        Ok(AdmittedCall {
            caller: call.caller(),
            deadline: self.clock.monotonic() + call.remaining(DEFAULT_TIMEOUT),
            message: request.into_inner(),
            _permit: permit,
        })
    }

    /// Like [`Admission::admit`], for a change that does harm if it is made after its caller gave up: it would end sessions that
    /// began since, or undo what the caller did next.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` for some seconds after a long pause of this process, when it may have waited in the socket.
    fn admit_change<T>(&self, request: tonic::Request<T>) -> Result<AdmittedCall<T>> {
        self.check_current()?;
        self.admit(request)
    }

    fn check_current(&self) -> Result<()> {
        if self.feed.may_be_late() {
            return Err(Error::store_unavailable(
                "this process stood still, and the caller may have given the change up meanwhile",
            ));
        }
        Ok(())
    }

    /// A permit to work beyond memory. `OVERLOADED` if there are too many.
    fn permit(&self) -> Result<Permit> {
        self.limit.acquire()
    }

    /// Until when the caller waits.
    fn deadline(&self, call: &Call) -> Deadline {
        Deadline::after(self.clock.read(), call.remaining(DEFAULT_TIMEOUT))
    }
}

impl<T> AdmittedCall<T> {
    /// The principal on whose behalf the rules of `account` run.
    fn principal(&self) -> Principal {
        Principal::from(&self.caller)
    }
}
