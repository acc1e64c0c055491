//! `envoy.service.auth.v3.Authorization`: what Envoy asks before it lets a request through.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Desk;
use crate::gateway::Gateway;
use crate::grpc::convert::check;
use crate::grpc::layers::{Call, Pass};
use crate::model::Caller;
use crate::proto::envoy::service::auth::v3::authorization_server::Authorization;
use crate::proto::envoy::service::auth::v3::{CheckRequest, CheckResponse};

pub(super) struct AuthorizationCalls {
    desk: Desk,
    gateway: Arc<Gateway>,
}

impl AuthorizationCalls {
    pub(super) fn new(desk: Desk, gateway: Arc<Gateway>) -> Self {
        Self { desk, gateway }
    }
}

#[tonic::async_trait]
impl Authorization for AuthorizationCalls {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let call = Call::of(&request)?;
        // Memory answers at once, and is never too busy to; the stores are asked by so many at a time.
        let renewer = || -> crate::model::Result<Option<(Caller, Pass)>> {
            let caller = call.caller();
            let may = caller.has("countersign:refresh");
            may.then(|| Ok((caller, self.desk.gate.enter()?))).transpose()
        };
        let (asked, route) = check::asked(request.get_ref())?;
        let verdict = self.gateway.check(&asked, route, &renewer).await?;
        Ok(Response::new(check::verdict(&verdict)))
    }
}
