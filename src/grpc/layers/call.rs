//! What every service finds in the extensions of a request: who calls, from where, and until when they wait.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::time::Instant;

use crate::listener::Peer;
use crate::model::audit::Origin;
use crate::model::{Caller, Error, Result};

/// A call that the policy let pass.
#[derive(Clone, Debug)]
pub struct Call {
    pub(super) caller: Arc<Caller>,
    pub(super) peer: Arc<Peer>,
    pub(super) request_id: HeaderValue,
    pub(super) deadline: Option<Instant>,
}

impl Call {
    /// The call that this request makes.
    ///
    /// # Errors
    /// `Internal` if the request did not come through the frame, which alone decides who may call.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self> {
        request
            .extensions()
            .get()
            .ok_or_else(|| Error::internal("a request came past the frame"))
    }

    /// Who calls, with the peer's address and the request's id for the audit trail.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller {
            identity: self.caller.identity.clone(),
            scopes: self.caller.scopes.clone(),
            origin: Origin {
                actor: self.caller.origin.actor.clone(),
                ip_address: self.peer.ip().to_string(),
                request_id: self.request_id().to_owned(),
            },
        }
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        // It was made of visible ASCII, or checked to be.
        self.request_id.to_str().unwrap_or_default()
    }

    /// How much longer the caller waits; without a deadline, as for streams, `otherwise`.
    #[must_use]
    pub fn remaining(&self, otherwise: Duration) -> Duration {
        self.deadline
            .map_or(otherwise, |deadline| deadline.saturating_duration_since(Instant::now()))
    }
}
