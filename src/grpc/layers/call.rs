//! What the pipeline puts into the extensions of a request: the caller, its address and its deadline.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use super::ConnectionContext;
use super::gate_limits::GateKind;
use super::gates::GatePermit;
use super::request_body::FREE_BYTES;
use crate::model::audit::Origin;
use crate::model::{Caller, Error, Result};

/// A call that the pipeline has admitted.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) caller: Arc<Caller>,
    pub(super) connection: Arc<ConnectionContext>,
    pub(super) request_id: HeaderValue,
    pub(super) deadline: Option<Instant>,
}

impl Call {
    /// The call of this request.
    ///
    /// # Errors
    /// `Internal` if the request did not come through the pipeline, which alone authorizes callers.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self> {
        request
            .extensions()
            .get()
            .ok_or_else(|| Error::internal("a request did not come through the pipeline"))
    }

    /// The caller, with the peer's address and the request id for the audit trail.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            identity: self.caller.identity.clone(),
            scopes: self.caller.scopes.clone(),
            origin: Origin {
                actor: self.caller.origin.actor.clone(),
                ip_address: self.connection.peer.ip().to_string(),
                request_id: self.request_id().to_owned(),
            },
        }
    }

    /// The request id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        // Always visible ASCII: generated so, or checked.
        self.request_id.to_str().unwrap_or_default()
    }

    /// Memory for a request that is worked on, from the same gate as requests under way; `None` for a small request, which
    /// needs none.
    ///
    /// # Errors
    /// `OVERLOADED` if there is none.
    pub(in crate::grpc) fn reserve(&self, bytes: usize) -> Result<Option<GatePermit>> {
        let beyond = bytes.saturating_sub(FREE_BYTES);
        let acquire = || self.connection.consumer.acquire(GateKind::RequestBytes, beyond);
        (beyond > 0).then(acquire).transpose()
    }

    /// Time left until the deadline; `default` without one, as for most streams.
    #[must_use]
    pub fn remaining(&self, default: Duration) -> Duration {
        self.deadline
            .map_or(default, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
