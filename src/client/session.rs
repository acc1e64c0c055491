//! The tokens of a logged-in user, kept fresh.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic::{Code, Status};

use super::calls::Client;
use super::renewal::{RenewalLock, RenewalState, TokenLifetime};
use crate::proto::{RefreshRequest, Tokens};
use crate::secret::SecretText;

/// The session of a logged-in user. Its tokens are refreshed before they expire, by one refresh at a time. Clones share the
/// session.
///
/// ```no_run
/// use countersign::client::Client;
///
/// # async fn example() -> Result<(), tonic::Status> {
/// let client = Client::builder("http://127.0.0.1:50051").connect_lazy()?;
/// let session = client.log_in("ada", "correct horse battery staple").await?;
/// loop {
///     // Makes no call until `refresh_after` has passed; then one refresh runs in the background.
///     let token = session.access_token().await?;
///     println!("authorization: Bearer {}", token.expose());
/// #   break;
/// }
/// session.log_out().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Session {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    client: Client,
    state: Mutex<State>,
    renewal: RenewalLock,
}

#[derive(Debug)]
struct State {
    tokens: Tokens,
    lifetime: TokenLifetime,
    /// The `attempt_id` of the refresh that runs. A cancelled refresh may have succeeded with its response lost, so the next
    /// one is the same attempt.
    attempt_id: Option<String>,
    /// The error with which the service ended the session.
    ended: Option<Status>,
}

impl Session {
    /// A session with these tokens.
    #[must_use]
    pub fn new(client: Client, tokens: Tokens) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                state: Mutex::new(State {
                    lifetime: TokenLifetime::of(&tokens),
                    tokens,
                    attempt_id: None,
                    ended: None,
                }),
                renewal: RenewalLock::default(),
            }),
        }
    }

    /// A valid access token. Once `refresh_after` has passed, one refresh runs in the background while callers use the old
    /// token. Only an expired token makes callers wait for the refresh.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if the session has ended. After any other error the tokens are kept, and the caller may try again.
    pub async fn access_token(&self) -> Result<SecretText, Status> {
        let shared = &self.shared;
        match shared.current()? {
            (token, RenewalState::Fresh) => return Ok(token),
            (token, RenewalState::Due) => {
                if let Some(permit) = shared.renewal.try_acquire(shared.client.clock().now()) {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        let _permit = permit;
                        if shared.refresh().await.is_err() {
                            shared.renewal.record_failure(shared.client.clock().now());
                        }
                    });
                }
                return Ok(token);
            }
            (_, RenewalState::Expired) => {}
        }
        let _permit = shared.renewal.acquire().await;
        if let (token, RenewalState::Fresh | RenewalState::Due) = shared.current()? {
            return Ok(token);
        }
        shared.refresh().await?;
        Ok(shared.current()?.0)
    }

    /// The current tokens, for instance for the cookies of a gateway.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.shared.state.lock().tokens.clone()
    }

    /// Ends the session. Waits for a running refresh first, so that none follows.
    pub async fn log_out(self) -> Result<(), Status> {
        let _permit = self.shared.renewal.acquire().await;
        let token = self.tokens().refresh_token;
        self.shared.client.revoke_token(&token).await.map(drop)
    }
}

impl Shared {
    fn current(&self) -> Result<(SecretText, RenewalState), Status> {
        let state = self.state.lock();
        match &state.ended {
            Some(status) => Err(status.clone()),
            None => Ok((
                SecretText::new(state.tokens.access_token.clone()),
                state.lifetime.renewal_state(self.client.clock().now()),
            )),
        }
    }

    /// Refreshes the tokens. The caller must hold the renewal lock.
    async fn refresh(&self) -> Result<(), Status> {
        let request = {
            let mut state = self.state.lock();
            let new_id = || {
                let id = crate::model::new_uuid(self.client.clock().now(), self.client.entropy());
                id.simple().to_string()
            };
            RefreshRequest {
                attempt_id: state.attempt_id.get_or_insert_with(new_id).clone(),
                refresh_token: state.tokens.refresh_token.clone(),
                ..RefreshRequest::default()
            }
        };
        let response = self.client.refresh(request).await;
        let mut state = self.state.lock();
        match response {
            Ok(response) => {
                state.tokens = response.tokens.unwrap_or_default();
                state.lifetime = TokenLifetime::of(&state.tokens);
                state.attempt_id = None;
                Ok(())
            }
            Err(status) => {
                // The service refuses an unauthenticated client with the same code, which does not end the session.
                if status.code() == Code::Unauthenticated && !is_about_client(&status) {
                    state.ended = Some(status.clone());
                }
                Err(status)
            }
        }
    }
}

/// Whether the status is about the authentication of the client, not about the session.
fn is_about_client(status: &Status) -> bool {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    details
        .error_info()
        .is_some_and(|info| matches!(info.reason.as_str(), "CALLER_UNAUTHENTICATED" | "INVALID_CREDENTIALS"))
}
