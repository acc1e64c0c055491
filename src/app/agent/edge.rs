//! Check beside the proxy that asks it: by memory alone where that is enough, else by the upstream's Check.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Request;

use super::calls::{AgentCalls, no_help, passed_on};
use crate::client::Client;
use crate::gateway::{Gateway, Renews};
use crate::grpc::convert::check;
use crate::grpc::services::authorization::{Checked, Checks};
use crate::model::{ErrorKind, Result};
use crate::proto::envoy::service::auth::v3::CheckRequest;
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

    fn upstream(&self) -> Result<&Client> {
        Ok(&self.calls.following()?.0)
    }
}

/// The agent renews nothing.
enum Nobody {}

impl Renews for Nobody {
    async fn renew(&self, _: RefreshRequest) -> Result<Refreshed> {
        match *self {}
    }
}

impl Checks for AgentChecks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Checked> {
        let request = request.into_inner();
        let to_renew = AtomicBool::new(false);
        let renewer = || {
            to_renew.store(true, Ordering::Relaxed);
            Ok(None::<Nobody>)
        };
        let (asked, route) = check::asked(&request)?;
        let told = match self.gateway.check(&asked, route, &renewer).await {
            // Renewing is the upstream's, where it may be had by the agent's own `countersign:refresh`.
            Ok(_) if to_renew.load(Ordering::Relaxed) => {
                self.upstream()?.check(request).await.map_err(|s| passed_on(&s))
            }
            Ok(verdict) => return Ok(Checked::Judged(Box::new(verdict))),
            Err(error) if error.kind == ErrorKind::RevocationsStale => {
                self.upstream()?.check(request).await.map_err(|status| no_help(&status))
            }
            Err(error) => return Err(error),
        };
        Ok(Checked::Told(Box::new(told?)))
    }
}
