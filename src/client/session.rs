//! A logged-in person's tokens, kept fresh.

use std::sync::Arc;

use parking_lot::Mutex;
use tonic::{Code, Status};

use super::calls::Client;
use super::renewal::{Life, RenewalState, Turns};
use crate::proto::{RefreshRequest, Tokens};
use crate::secret::SecretText;

/// A session: its tokens are refreshed ahead of expiry, and never twice at once. Clones are the same session.
///
/// ```no_run
/// use countersign::client::Client;
///
/// # async fn example() -> Result<(), tonic::Status> {
/// let client = Client::builder("http://127.0.0.1:50051").connect_lazy()?;
/// let session = client.log_in("ada", "correct horse battery staple").await?;
/// loop {
///     // Costs nothing until `refresh_after` has passed; then one refresh runs beside the calls that go on.
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
    held: Mutex<Held>,
    turns: Turns,
}

#[derive(Debug)]
struct Held {
    tokens: Tokens,
    life: Life,
    /// Of the refresh that is under way: a cancelled one is taken up again as the same attempt, because its reply may
    /// have been lost with it.
    attempt: Option<String>,
    /// Why the session is over, once the service has said so.
    over: Option<Status>,
}

impl Session {
    /// The session of these tokens.
    #[must_use]
    pub fn new(client: Client, tokens: Tokens) -> Self {
        Self {
            shared: Arc::new(Shared {
                client,
                held: Mutex::new(Held {
                    life: Life::of(&tokens),
                    tokens,
                    attempt: None,
                    over: None,
                }),
                turns: Turns::default(),
            }),
        }
    }

    /// A good access token. Once `refresh_after` has passed, one refresh runs beside the callers, who go on with the old
    /// token while that is good; only without a good token is the refresh waited for.
    ///
    /// `UNAUTHENTICATED` means that the session is over; on any other error the tokens are kept, and it may be tried
    /// again.
    pub async fn access_token(&self) -> Result<SecretText, Status> {
        let shared = &self.shared;
        match shared.current()? {
            (token, RenewalState::Fresh) => return Ok(token),
            (token, RenewalState::Due) => {
                if let Some(turn) = shared.turns.free(shared.client.clock().now()) {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        let _turn = turn;
                        if shared.refresh().await.is_err() {
                            shared.turns.failed(shared.client.clock().now());
                        }
                    });
                }
                return Ok(token);
            }
            (_, RenewalState::Over) => {}
        }
        let _turn = shared.turns.wait().await;
        if let (token, RenewalState::Fresh | RenewalState::Due) = shared.current()? {
            return Ok(token);
        }
        shared.refresh().await?;
        Ok(shared.current()?.0)
    }

    /// The tokens as they are now: what a gateway puts into cookies.
    #[must_use]
    pub fn tokens(&self) -> Tokens {
        self.shared.held.lock().tokens.clone()
    }

    /// Ends the session. A refresh that is under way is waited for, so that none comes after.
    pub async fn log_out(self) -> Result<(), Status> {
        let _turn = self.shared.turns.wait().await;
        let token = self.tokens().refresh_token;
        self.shared.client.revoke_token(&token).await.map(drop)
    }
}

impl Shared {
    fn current(&self) -> Result<(SecretText, RenewalState), Status> {
        let held = self.held.lock();
        match &held.over {
            Some(over) => Err(over.clone()),
            None => Ok((
                SecretText::new(held.tokens.access_token.clone()),
                held.life.renewal_state(self.client.clock().now()),
            )),
        }
    }

    /// Refreshes; whoever calls has the turn.
    async fn refresh(&self) -> Result<(), Status> {
        let request = {
            let mut held = self.held.lock();
            let fresh = || {
                let id = crate::model::new_uuid(self.client.clock().now(), self.client.entropy());
                id.simple().to_string()
            };
            RefreshRequest {
                attempt_id: held.attempt.get_or_insert_with(fresh).clone(),
                refresh_token: held.tokens.refresh_token.clone(),
                ..RefreshRequest::default()
            }
        };
        let answer = self.client.refresh(request).await;
        let mut held = self.held.lock();
        match answer {
            Ok(answer) => {
                held.tokens = answer.tokens.unwrap_or_default();
                held.life = Life::of(&held.tokens);
                held.attempt = None;
                Ok(())
            }
            Err(status) => {
                // The service refuses the caller with the same code: only what it says of the session ends the session.
                if status.code() == Code::Unauthenticated && !is_about_us(&status) {
                    held.over = Some(status.clone());
                }
                Err(status)
            }
        }
    }
}

/// Whether it is the client itself that is not known, rather than the session.
fn is_about_us(status: &Status) -> bool {
    use tonic_types::StatusExt as _;
    let details = status.get_error_details();
    details
        .error_info()
        .is_some_and(|info| matches!(info.reason.as_str(), "CALLER_UNAUTHENTICATED" | "INVALID_CREDENTIALS"))
}
