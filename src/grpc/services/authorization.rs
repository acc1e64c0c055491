//! `envoy.service.auth.v3.Authorization`: what Envoy asks before it lets a request through. On the path of every request,
//! so it is served by hand; what answers is the rules of this service, or an agent's verifier.

use std::sync::Arc;

use prost::Message as _;
use tonic::codec::EncodeBuf;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use super::Desk;
use super::codec::{EncodeResponse, HotPathCodec};
use crate::gateway::{Decision, Gateway, Renewal};
use crate::grpc::convert::check;
use crate::grpc::convert::check_request::EncodedCheckRequest;
use crate::grpc::layers::{Call, RequestBody, ResponseFuture};
use crate::grpc::policy::Method;
use crate::model::Result;
use crate::model::scope::CallerScope;
use crate::proto::envoy::service::auth::v3::CheckResponse;
use crate::token::Tokens;

/// What Envoy is told.
#[derive(Debug)]
pub enum Checked {
    /// What was decided here.
    Judged(Box<Decision>),
    /// As another Countersign told it.
    Told(Box<CheckResponse>),
}

/// What answers Check.
pub trait Checks: Send + Sync + 'static {
    /// Whether the request may pass.
    fn check(&self, request: Request<EncodedCheckRequest>) -> impl Future<Output = Result<Checked>> + Send;
}

/// Answers a call of Check.
pub fn serve<C: Checks>(by: &Arc<C>, method: &'static Method, request: http::Request<RequestBody>) -> ResponseFuture {
    let by = Arc::clone(by);
    Box::pin(async move {
        let mut grpc = Grpc::new(HotPathCodec::<EncodedCheckRequest, _>::default());
        grpc = grpc.apply_max_message_size_config(Some(method.max_request), None);
        Ok(grpc.unary(One(by), request).await)
    })
}

struct One<C>(Arc<C>);

impl<C: Checks> UnaryService<EncodedCheckRequest> for One<C> {
    type Response = Checked;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Checked>, Status>> + Send>>;

    fn call(&mut self, request: Request<EncodedCheckRequest>) -> Self::Future {
        let by = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(by.check(request).await?)) })
    }
}

impl EncodeResponse for Checked {
    const INITIAL_CAPACITY: usize = 2048;

    fn write(self, out: &mut EncodeBuf<'_>) {
        match self {
            Self::Judged(decision) => check::write(&decision, out),
            Self::Told(response) => response.encode_raw(out),
        }
    }
}

/// Check by the rules of this service.
pub(super) struct AuthorizationCalls {
    desk: Desk,
    gateway: Arc<Gateway<Tokens>>,
    tokens: Arc<Tokens>,
}

impl AuthorizationCalls {
    pub(super) fn new(desk: Desk, gateway: Arc<Gateway<Tokens>>, tokens: Arc<Tokens>) -> Self {
        Self { desk, gateway, tokens }
    }
}

impl Checks for AuthorizationCalls {
    async fn check(&self, request: Request<EncodedCheckRequest>) -> Result<Checked> {
        let call = Call::of(&request)?;
        // Memory answers at once, and is never too busy to; the stores are asked by so many at a time.
        let renewer = || {
            let caller = call.caller();
            let renewal = || {
                Ok(Renewal {
                    tokens: self.tokens.clone(),
                    caller: call.caller(),
                    pass: self.desk.gate.acquire()?,
                })
            };
            caller.has(CallerScope::Refresh).then(renewal).transpose()
        };
        let (asked, route) = request.get_ref().read()?;
        let decision = self.gateway.check(&asked, route, &renewer).await?;
        Ok(Checked::Judged(Box::new(decision)))
    }
}
