//! A caller of the token service: Issue, Refresh, Validate and Revoke.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::{
    InactiveReason, IssueRequest, PasswordCredential, RefreshOutcome, RefreshRequest, RefreshResponse, RevokeRequest,
    Tokens, ValidateRequest, ValidateResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::deployment::PASSWORD;
use super::{Countersign, eventually};

/// A connection to one replica.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The stub, for calls that have no method here.
    pub tokens: TokenServiceClient<Channel>,
}

/// The deadline of every call by default: longer than any call may take.
const DEADLINE: Duration = Duration::from_secs(20);

impl Caller {
    /// Connects to this replica.
    pub fn of(server: &Countersign) -> Self {
        Self::at(&server.grpc_url())
    }

    /// Connects to this URL, at the first call.
    pub fn at(url: &str) -> Self {
        Self::with_deadline(url, DEADLINE)
    }

    /// Connects to this URL, with another deadline for every call.
    pub fn with_deadline(url: &str, deadline: Duration) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL").timeout(deadline);
        Self {
            tokens: TokenServiceClient::new(endpoint.connect_lazy()),
        }
    }

    /// Logs in with [`PASSWORD`] at the default client.
    pub async fn login(&self, username: &str) -> Tokens {
        self.issue(username, PASSWORD).await.expect("the login succeeds")
    }

    /// Logs in with [`PASSWORD`] at this client.
    pub async fn login_at(&self, client: &str, username: &str) -> Tokens {
        let issued = self.issue_at(client, username, PASSWORD).await;
        issued.expect("the login succeeds")
    }

    /// Issue with a password at the default client.
    pub async fn issue(&self, username: &str, password: &str) -> Result<Tokens, Status> {
        self.issue_at("", username, password).await
    }

    /// Issue with a password at this client.
    pub async fn issue_at(&self, client: &str, username: &str, password: &str) -> Result<Tokens, Status> {
        let request = IssueRequest {
            client_id: client.to_owned(),
            credential: Some(Credential::Password(PasswordCredential {
                username: username.to_owned(),
                password: password.to_owned(),
            })),
            ..IssueRequest::default()
        };
        let answer = self.tokens.clone().issue(request).await?.into_inner();
        Ok(answer.tokens.expect("an issue without an error has tokens"))
    }

    /// Refresh with this attempt id.
    pub async fn refresh_as(&self, token: &str, attempt: &str) -> Result<RefreshResponse, Status> {
        let request = RefreshRequest {
            refresh_token: token.to_owned(),
            attempt_id: attempt.to_owned(),
            ..RefreshRequest::default()
        };
        Ok(self.tokens.clone().refresh(request).await?.into_inner())
    }

    /// Refresh without an attempt id. Returns the new tokens and the outcome.
    pub async fn refresh(&self, token: &str) -> Result<(Tokens, RefreshOutcome), Status> {
        let answer = self.refresh_as(token, "").await?;
        let outcome = answer.outcome();
        Ok((answer.tokens.expect("a refresh without an error has tokens"), outcome))
    }

    /// Repeats Refresh while a store is unavailable or overloaded: each of a replica's connections recovers on its
    /// own.
    pub async fn refresh_until_answered(&self, token: &str) -> Result<(Tokens, RefreshOutcome), Status> {
        eventually("Refresh is answered", Duration::from_mins(1), || async {
            match self.refresh(token).await {
                Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => None,
                answer => Some(answer),
            }
        })
        .await
    }

    /// Validate for any audience.
    pub async fn validate(&self, token: &str) -> Result<ValidateResponse, Status> {
        let request = ValidateRequest {
            access_token: token.to_owned(),
            ..ValidateRequest::default()
        };
        Ok(self.tokens.clone().validate(request).await?.into_inner())
    }

    /// Why Validate rejects the token; `None` if it is active.
    pub async fn inactive_reason(&self, token: &str) -> Option<InactiveReason> {
        let answer = self.validate(token).await.expect("Validate answers");
        (!answer.active).then(|| answer.reason())
    }

    /// Asserts that the token is active.
    pub async fn assert_active(&self, token: &str) {
        assert_eq!(self.inactive_reason(token).await, None);
    }

    /// Asserts that the token is active, as soon as this replica answers: until then it may be on its way to another store.
    pub async fn assert_active_when_answered(&self, token: &str) {
        let answer = eventually("Validate is answered", Duration::from_mins(1), || async {
            match self.validate(token).await {
                Err(status) if status.code() == Code::Unavailable => None,
                answer => Some(answer.expect("Validate answers")),
            }
        })
        .await;
        assert!(answer.active, "{answer:?}");
    }

    /// Waits until this replica knows that the token is revoked, from another replica or from the store.
    pub async fn until_revoked(&self, token: &str) {
        eventually("the token is revoked here", Duration::from_secs(30), || async {
            self.inactive_reason(token)
                .await
                .filter(|reason| *reason == InactiveReason::Revoked)
        })
        .await;
    }

    /// Revoke. Returns how many sessions are known to have ended.
    pub async fn revoke(&self, target: Target) -> Result<u32, Status> {
        let request = RevokeRequest {
            target: Some(target),
            ..RevokeRequest::default()
        };
        Ok(self.tokens.clone().revoke(request).await?.into_inner().sessions_revoked)
    }
}

/// The code and the `ErrorInfo.reason` of an error.
pub fn reason(status: &Status) -> (Code, String) {
    let details = status.get_error_details();
    let info = details.error_info();
    if let Some(info) = info {
        assert_eq!(info.domain, "countersign");
    }
    (status.code(), info.map(|info| info.reason.clone()).unwrap_or_default())
}

/// Asserts that a call failed with this code and reason.
#[track_caller]
pub fn assert_refused<T>(answer: Result<T, Status>, code: Code, why: &str) {
    match answer {
        Ok(_) => panic!("not refused, should be {code:?} {why}"),
        Err(status) => assert_eq!(reason(&status), (code, why.to_owned()), "{status:?}"),
    }
}

/// The bytes of a refresh token, as laid out in `token::refresh_token`.
pub fn refresh_bytes(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD
        .decode(token.strip_prefix("csr_").expect("a refresh token"))
        .expect("base64url")
}

/// The generation of a refresh token within its session.
pub fn generation(token: &str) -> u32 {
    u32::from_be_bytes(refresh_bytes(token)[37..41].try_into().unwrap())
}

/// The session secret in a refresh token, which no store may hold.
pub fn session_secret(token: &str) -> Vec<u8> {
    let bytes = refresh_bytes(token);
    bytes[bytes.len() - 52..bytes.len() - 20].to_vec()
}

/// The reverse of [`refresh_bytes`].
pub fn refresh_text(bytes: &[u8]) -> String {
    format!("csr_{}", URL_SAFE_NO_PAD.encode(bytes))
}
