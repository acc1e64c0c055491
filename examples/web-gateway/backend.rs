//! The calls to Countersign.

use countersign::client::Client;
use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::user_service_client::UserServiceClient;
use countersign::proto::{
    CreateUserRequest, IssueRequest, ListSessionsRequest, PasswordCredential, RefreshRequest, RevokeRequest, Session,
    SessionContext, Tokens, User, ValidateResponse,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// The connection to Countersign.
pub(crate) struct Backend {
    client: Client,
    channel: Channel,
}

impl Backend {
    pub(crate) fn new(url: &str) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self {
            client: Client::builder(url).connect_lazy()?,
            channel: Endpoint::from_shared(url.to_owned())?.connect_lazy(),
        })
    }

    pub(crate) async fn register(&self, username: &str, password: &str) -> Result<(), Status> {
        let request = CreateUserRequest {
            user: Some(User {
                username: username.to_owned(),
                ..User::default()
            }),
            password: password.to_owned(),
        };
        UserServiceClient::new(self.channel.clone())
            .create_user(request)
            .await
            .map(drop)
    }

    pub(crate) async fn log_in(&self, username: &str, password: &str, user_agent: &str) -> Result<Tokens, Status> {
        self.client
            .issue(IssueRequest {
                credential: Some(Credential::Password(PasswordCredential {
                    username: username.to_owned(),
                    password: password.to_owned(),
                })),
                context: Some(SessionContext {
                    user_agent: user_agent.to_owned(),
                    ..SessionContext::default()
                }),
                ..IssueRequest::default()
            })
            .await
    }

    pub(crate) async fn validate(&self, access: &str) -> Result<ValidateResponse, Status> {
        self.client.validate(access, "api", &[]).await
    }

    /// Refreshes the tokens. A browser sends several requests for one page at once, all with the same refresh token. The
    /// fixed `attempt_id` makes them one attempt, so that all receive the same successor.
    pub(crate) async fn refresh(&self, refresh: &str) -> Result<Tokens, Status> {
        let request = RefreshRequest {
            refresh_token: refresh.to_owned(),
            attempt_id: "browser".to_owned(),
            ..RefreshRequest::default()
        };
        Ok(self.client.refresh(request).await?.tokens.unwrap_or_default())
    }

    /// Ends the session of this token.
    pub(crate) async fn log_out(&self, token: &str) -> Result<(), Status> {
        self.client.revoke_token(token).await.map(drop)
    }

    /// Ends all sessions of a user, with the access token of that user.
    pub(crate) async fn log_out_everywhere(&self, access: &str, user: &str) -> Result<(), Status> {
        let request = RevokeRequest {
            target: Some(Target::UserId(user.to_owned())),
            ..RevokeRequest::default()
        };
        TokenServiceClient::new(self.channel.clone())
            .revoke(as_user(request, access)?)
            .await
            .map(drop)
    }

    /// Lists the sessions of a user, with the access token of that user.
    pub(crate) async fn sessions(&self, access: &str, user: &str) -> Result<Vec<Session>, Status> {
        let request = ListSessionsRequest {
            user_id: user.to_owned(),
        };
        let response = UserServiceClient::new(self.channel.clone())
            .list_sessions(as_user(request, access)?)
            .await?;
        Ok(response.into_inner().sessions)
    }
}

/// A request with the access token of a user. It needs no scope for calls on the account of that user.
fn as_user<T>(message: T, access: &str) -> Result<Request<T>, Status> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {access}").parse();
    let bearer = bearer.map_err(|_| Status::unauthenticated("the access token is malformed"))?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}
