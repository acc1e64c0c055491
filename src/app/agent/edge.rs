//! Check beside the proxy that asks it: by memory alone where that is enough, else by the upstream's Check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Code, Request, Status};

use super::calls::{AgentCalls, pass_on, stale_without_upstream};
use crate::gateway::{Gateway, IDENTITY, RenewSession};
use crate::grpc::convert::check_request::EncodedCheckRequest;
use crate::grpc::services::authorization::{AnswerCheck, CheckAnswer};
use crate::model::{ErrorKind, Result};
use crate::proto::envoy::service::auth::v3::CheckResponse;
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::token::{RefreshRequest, Refreshed};

/// The rule of the gateway, over what the agent knows.
pub(super) struct AgentChecks {
    gateway: Gateway<AgentCalls>,
    calls: Arc<AgentCalls>,
}

impl AgentChecks {
    pub(super) fn new(gateway: Gateway<AgentCalls>, calls: Arc<AgentCalls>) -> Self {
        Self { gateway, calls }
    }

    /// Has the upstream decide, by what the agent wants of the route: its own configuration may want less.
    async fn forward(
        &self,
        question: EncodedCheckRequest,
        wants: (String, String),
    ) -> Result<Result<CheckAnswer, Status>> {
        let mut request = question.decode()?;
        let upstream = &self.calls.upstream()?.client;
        let (audience, scopes) = wants;
        if let Some(attributes) = &mut request.attributes {
            let extensions = &mut attributes.context_extensions;
            extensions.insert("audience".to_owned(), audience);
            extensions.insert("scopes".to_owned(), scopes);
        }
        let told = match upstream.check(request).await {
            Ok(told) => told,
            Err(status) => return Ok(Err(status)),
        };
        Ok(match self.restrict(told) {
            Some(told) => Ok(CheckAnswer::Upstream(Box::new(told))),
            None => Err(Status::permission_denied(
                "the token is not of the client that passes here",
            )),
        })
    }

    /// The upstream's answer under the rest of the agent's configuration; none if what it admits does not pass here.
    fn restrict(&self, mut told: CheckResponse) -> Option<CheckResponse> {
        let Some(HttpResponse::OkResponse(ok)) = &mut told.http_response else {
            return Some(told);
        };
        let config = self.gateway.config();
        if let Some(client) = &config.client {
            let headers = ok.headers.iter().filter_map(|option| option.header.as_ref());
            let mut of = headers
                .filter(|header| header.key == CLIENT)
                .map(|header| header.value.as_str());
            if of.next() != Some(client.as_str()) {
                return None;
            }
        }
        // Where there is none, removing it changes nothing.
        if config.strip_token && !ok.headers_to_remove.iter().any(|name| name == "authorization") {
            ok.headers_to_remove.push("authorization".to_owned());
        }
        Some(told)
    }
}

/// Which of the headers that tell who asks names the client.
const CLIENT: &str = IDENTITY[2];

/// The agent renews no session itself.
enum NoRenewal {}

impl RenewSession for NoRenewal {
    async fn renew(&self, _: RefreshRequest) -> Result<Refreshed> {
        match *self {}
    }
}

impl AnswerCheck for AgentChecks {
    async fn check(&self, request: Request<EncodedCheckRequest>) -> Result<CheckAnswer> {
        let question = request.into_inner();
        let to_renew = AtomicBool::new(false);
        let renewer = || {
            to_renew.store(true, Ordering::Relaxed);
            Ok(None::<NoRenewal>)
        };
        let (asked, route) = question.read()?;
        let wants = self.gateway.wants(route);
        let decided = self.gateway.check(&asked, route, &renewer).await;
        match decided {
            // Renewing is the upstream's, where it may be had by the agent's own `countersign:refresh`.
            Ok(verdict) if to_renew.load(Ordering::Relaxed) => match self.forward(question.clone(), wants).await? {
                Ok(told) => Ok(told),
                // It does not serve Check, or not to us: then no cookie is renewed.
                Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unimplemented) => {
                    Ok(CheckAnswer::Local(Box::new(verdict)))
                }
                Err(status) => Err(pass_on(&status)),
            },
            Ok(verdict) => Ok(CheckAnswer::Local(Box::new(verdict))),
            Err(error) if error.kind == ErrorKind::RevocationsStale => self
                .forward(question.clone(), wants)
                .await?
                .map_err(|status| stale_without_upstream(&status)),
            Err(error) => Err(error),
        }
    }
}
