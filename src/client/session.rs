//! A logged-in person's tokens, kept fresh.

use std::sync::Arc;

use tokio::sync::Mutex;
use tonic::{Code, Status};

use super::calls::Client;
use crate::clock::UnixMillis;
use crate::proto::{RefreshRequest, Tokens};
use crate::secret::SecretText;

/// A session: its tokens are refreshed ahead of expiry, and never twice at once. Clones are the same session.
#[derive(Clone, Debug)]
pub struct Session {
    client: Client,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    tokens: Tokens,
    /// Of the refresh that is under way: a cancelled one is taken up again as the same attempt, because its reply may
    /// have been lost with it.
    attempt: Option<String>,
}

impl Session {
    /// The session of these tokens.
    #[must_use]
    pub fn new(client: Client, tokens: Tokens) -> Self {
        Self {
            client,
            held: Arc::new(Mutex::new(Held { tokens, attempt: None })),
        }
    }

    /// A fresh access token. While a refresh ahead of time fails, the one that is still good.
    ///
    /// `UNAUTHENTICATED` means that the session is over; on any other error the tokens are kept, and it may be tried
    /// again.
    pub async fn access_token(&self) -> Result<SecretText, Status> {
        let mut held = self.held.lock().await;
        let now = self.client.clock().now();
        if now < moment(held.tokens.refresh_after.as_ref()) {
            return Ok(SecretText::new(held.tokens.access_token.clone()));
        }
        match self.refresh(&mut held).await {
            Err(status) if status.code() == Code::Unauthenticated => return Err(status),
            Err(status) if now >= moment(held.tokens.access_expires_at.as_ref()) => return Err(status),
            Ok(()) | Err(_) => {}
        }
        Ok(SecretText::new(held.tokens.access_token.clone()))
    }

    /// The tokens as they are now: what a gateway puts into cookies.
    pub async fn tokens(&self) -> Tokens {
        self.held.lock().await.tokens.clone()
    }

    /// Ends the session.
    pub async fn log_out(self) -> Result<(), Status> {
        let held = self.held.lock().await;
        self.client.revoke_token(&held.tokens.refresh_token).await.map(drop)
    }

    async fn refresh(&self, held: &mut Held) -> Result<(), Status> {
        let fresh = || {
            let id = crate::model::new_uuid(self.client.clock().now(), self.client.entropy());
            id.simple().to_string()
        };
        let attempt_id = held.attempt.get_or_insert_with(fresh).clone();
        let request = RefreshRequest {
            refresh_token: held.tokens.refresh_token.clone(),
            attempt_id,
            ..RefreshRequest::default()
        };
        let answer = self.client.refresh(request).await?;
        held.tokens = answer.tokens.unwrap_or_default();
        held.attempt = None;
        Ok(())
    }
}

fn moment(time: Option<&prost_types::Timestamp>) -> UnixMillis {
    time.map_or(UnixMillis(0), |t| {
        UnixMillis(t.seconds.saturating_mul(1000) + i64::from(t.nanos / 1_000_000))
    })
}
