//! How the agent answers Check: from memory where that is enough, else with the upstream's answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::{Code, Request, Status};

use super::calls::{AgentCalls, pass_on, stale_without_upstream};
use crate::gateway::{Gateway, IDENTITY, ProxiedRequest, RenewSession, Route};
use crate::grpc::convert::check_request::EncodedCheckRequest;
use crate::grpc::services::authorization::{AnswerCheck, CheckAnswer};
use crate::model::{ErrorKind, Result, UserId};
use crate::proto::envoy::service::auth::v3::CheckResponse;
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::secret::SecretText;
use crate::token::{RefreshRequest, Refreshed};

/// Check, by the agent's gateway.
pub(super) struct AgentChecks {
    gateway: Gateway<AgentCalls>,
    calls: Arc<AgentCalls>,
}

impl AgentChecks {
    pub(super) fn new(gateway: Gateway<AgentCalls>, calls: Arc<AgentCalls>) -> Self {
        Self { gateway, calls }
    }

    /// Asks the upstream, with the agent's requirements for the route: the upstream's configuration may require less. The
    /// inner error is the status of the upstream.
    async fn forward(
        &self,
        encoded: EncodedCheckRequest,
        proxied: &ProxiedRequest<'_>,
        route: Route<'_>,
    ) -> Result<Result<CheckAnswer, Status>> {
        let mut request = encoded.decode()?;
        let upstream = &self.calls.upstream()?.client;
        if let Some(attributes) = &mut request.attributes {
            let extensions = &mut attributes.context_extensions;
            for (name, value) in self.gateway.settings(route) {
                extensions.insert(name.to_owned(), value);
            }
            // The upstream may accept every client. It renews no cookie of a streaming route.
            if !self.gateway.may_renew(proxied) {
                extensions.insert("streaming".to_owned(), "true".to_owned());
            }
        }
        let response = match upstream.check(request).await {
            Ok(response) => response,
            Err(status) => return Ok(Err(status)),
        };
        Ok(match self.restrict(response, route) {
            Some(response) => Ok(CheckAnswer::Upstream(Box::new(response))),
            None => Err(Status::permission_denied("the token does not suffice here")),
        })
    }

    /// Applies the rest of the agent's configuration to the upstream's response; none if the agent does not admit what the
    /// upstream admits. An upstream of an earlier version does not know the roles of a route.
    fn restrict(&self, mut response: CheckResponse, route: Route<'_>) -> Option<CheckResponse> {
        let Some(HttpResponse::OkResponse(ok)) = &mut response.http_response else {
            return Some(response);
        };
        let config = self.gateway.config();
        let value_of = |name: &str| {
            let mut headers = ok.headers.iter().filter_map(|option| option.header.as_ref());
            headers
                .find(|header| header.key == name)
                .map(|header| header.value.as_str())
        };
        let [subject, client, roles] = [SUBJECT, CLIENT, ROLES].map(value_of);
        let is_of_client = config.client.as_ref().is_none_or(|own| client == Some(own.as_str()));
        let mut wanted = route.roles.split_ascii_whitespace().peekable();
        let has_role =
            wanted.peek().is_none() || wanted.any(|role| roles.unwrap_or_default().split(' ').any(|held| held == role));
        let passes_without = subject.is_none() && route.optional;
        if !(passes_without || subject.is_some() && is_of_client && has_role) {
            return None;
        }
        // Removing a header that is absent changes nothing.
        if config.strip_token && !ok.headers_to_remove.iter().any(|name| name == "authorization") {
            ok.headers_to_remove.push("authorization".to_owned());
        }
        Some(response)
    }
}

/// The identity headers that name the user or client, the client that has the token, and the roles.
const SUBJECT: &str = IDENTITY[0];
const CLIENT: &str = IDENTITY[2];
const ROLES: &str = IDENTITY[4];

/// The agent renews no session itself.
enum NoRenewal {}

impl RenewSession for NoRenewal {
    async fn verify(&self, _: &SecretText) -> Result<UserId> {
        match *self {}
    }

    async fn renew(&self, _: RefreshRequest) -> Result<Refreshed> {
        match *self {}
    }
}

impl AnswerCheck for AgentChecks {
    async fn check(&self, request: Request<EncodedCheckRequest>) -> Result<CheckAnswer> {
        let request = request.into_inner();
        let needs_renewal = AtomicBool::new(false);
        let renewer = || {
            needs_renewal.store(true, Ordering::Relaxed);
            None::<NoRenewal>
        };
        let (proxied, route) = request.read()?;
        let decision = self.gateway.check(&proxied, route, &renewer).await;
        match decision {
            // Only the upstream renews, if the agent itself has `countersign:refresh`.
            Ok(decision) if needs_renewal.load(Ordering::Relaxed) => {
                match self.forward(request.clone(), &proxied, route).await? {
                    Ok(answer) => Ok(answer),
                    // The upstream does not serve Check, or not to this agent: no cookie is renewed.
                    Err(status) if matches!(status.code(), Code::PermissionDenied | Code::Unimplemented) => {
                        Ok(CheckAnswer::Local(Box::new(decision)))
                    }
                    Err(status) => Err(pass_on(&status)),
                }
            }
            Ok(decision) => Ok(CheckAnswer::Local(Box::new(decision))),
            Err(error) if error.kind == ErrorKind::RevocationsStale => self
                .forward(request.clone(), &proxied, route)
                .await?
                .map_err(|status| stale_without_upstream(&status)),
            Err(error) => Err(error),
        }
    }
}
