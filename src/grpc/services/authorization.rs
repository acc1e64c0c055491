//! `envoy.service.auth.v3.Authorization`: Envoy asks it about each request. It is on the path of every request, so it has
//! its own codec. This service or an agent answers.

use std::sync::Arc;

use prost::Message as _;
use tonic::codec::EncodeBuf;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};

use super::Admission;
use super::codec::{EncodeResponse, HotPathCodec};
use crate::gateway::{Decision, Gateway, Renewal};
use crate::grpc::convert::check;
use crate::grpc::convert::check_request::EncodedCheckRequest;
use crate::grpc::layers::{Call, RequestBody, ResponseFuture};
use crate::grpc::policy::Method;
use crate::model::Result;
use crate::model::scope::CallerScope;
use crate::proto::envoy::service::auth::v3::CheckResponse;
use crate::token::{Refresher, ServiceValidator};

/// An answer of Check.
#[derive(Debug)]
pub enum CheckAnswer {
    /// Decided here.
    Local(Box<Decision>),
    /// The answer of another Countersign, passed on.
    Upstream(Box<CheckResponse>),
}

/// Answers Check.
pub trait AnswerCheck: Send + Sync + 'static {
    /// Decides whether the request may pass.
    fn check(&self, request: Request<EncodedCheckRequest>) -> impl Future<Output = Result<CheckAnswer>> + Send;
}

/// Serves a call of Check.
pub fn serve<C: AnswerCheck>(
    calls: &Arc<C>,
    method: &'static Method,
    request: http::Request<RequestBody>,
) -> ResponseFuture {
    let calls = Arc::clone(calls);
    Box::pin(async move {
        let mut grpc = Grpc::new(HotPathCodec::<EncodedCheckRequest, _>::default());
        grpc = grpc.apply_max_message_size_config(Some(method.max_request), None);
        Ok(grpc.unary(Check(calls), request).await)
    })
}

struct Check<C>(Arc<C>);

impl<C: AnswerCheck> UnaryService<EncodedCheckRequest> for Check<C> {
    type Response = CheckAnswer;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<CheckAnswer>, Status>> + Send>>;

    fn call(&mut self, request: Request<EncodedCheckRequest>) -> Self::Future {
        let calls = Arc::clone(&self.0);
        Box::pin(async move { Ok(Response::new(calls.check(request).await?)) })
    }
}

impl EncodeResponse for CheckAnswer {
    const INITIAL_CAPACITY: usize = 2048;

    fn write(self, out: &mut EncodeBuf<'_>) {
        match self {
            Self::Local(verdict) => check::write(&verdict, out),
            Self::Upstream(response) => response.encode_raw(out),
        }
    }
}

/// Answers Check for this service.
pub(crate) struct AuthorizationCalls {
    pub(crate) admission: Admission,
    pub(crate) gateway: Arc<Gateway<ServiceValidator>>,
    pub(crate) refresher: Arc<Refresher>,
}

impl AnswerCheck for AuthorizationCalls {
    async fn check(&self, request: Request<EncodedCheckRequest>) -> Result<CheckAnswer> {
        let call = Call::of(&request)?;
        let deadline = self.admission.deadline(call);
        // An answer from memory is never refused for load; a renewal needs the stores, and a permit.
        let renewer = || {
            let caller = call.caller();
            caller.has(CallerScope::Refresh).then(|| Renewal {
                refresher: self.refresher.clone(),
                caller,
                deadline,
                admit: || self.admission.permit(),
            })
        };
        let (asked, route) = request.get_ref().read()?;
        let verdict = self.gateway.check(&asked, route, &renewer).await?;
        Ok(CheckAnswer::Local(Box::new(verdict)))
    }
}
