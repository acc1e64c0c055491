//! The client library for services: [`Client`] for typed calls, [`Session`] for the tokens of a logged-in user, [`Verifier`]
//! to validate tokens locally, [`Guard`] to do so in front of a tonic or axum service.
//!
//! ```no_run
//! use countersign::client::{Client, Credential};
//!
//! # async fn example() -> Result<(), tonic::Status> {
//! let client = Client::builder("http://127.0.0.1:50051").connect_lazy()?;
//! let session = client.log_in("ada", "correct horse battery staple").await?;
//! // Always valid: the session refreshes it before it expires, once for all concurrent callers.
//! let token = session.access_token().await?;
//! let answer = client.validate(token.expose(), "api", &[]).await?;
//! assert!(answer.active);
//! # Ok(())
//! # }
//! ```

mod builder;
mod calls;
mod credential;
mod guard;
mod outage;
mod renewal;
mod retry;
mod session;
mod verifier;

pub use builder::Builder;
pub use calls::Client;
pub use credential::Credential;
pub use guard::{Guard, GuardLayer};
pub(crate) use outage::OutageLog;
pub use retry::RetryPolicy;
pub use session::Session;
pub use verifier::{Refused, TrustFollower, Verifier, VerifierConfig};

pub use crate::model::{Claims, InactiveReason};
