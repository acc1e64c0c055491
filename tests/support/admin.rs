//! The calls of administrators and clients, on every service of a running Countersign.

use std::time::Duration;

use countersign::proto::audit_service_client::AuditServiceClient;
use countersign::proto::client_service_client::ClientServiceClient;
use countersign::proto::issue_request::Credential;
use countersign::proto::key_service_client::KeyServiceClient;
use countersign::proto::token_service_client::TokenServiceClient;
use countersign::proto::user_service_client::UserServiceClient;
use countersign::proto::{
    AuditEvent, Client, ClientSecretCredential, CreateClientRequest, CreateUserRequest, Grant, IssueRequest,
    ListAuditEventsRequest, PasswordCredential, Tokens, UpdateClientRequest, User,
};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::Countersign;
use super::caller::reason;
use super::deployment::PASSWORD;

/// The client stubs of every service of one replica.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For calls that have no method here; the other stubs too.
    pub tokens: TokenServiceClient<Channel>,
    pub users: UserServiceClient<Channel>,
    pub clients: ClientServiceClient<Channel>,
    pub keys: KeyServiceClient<Channel>,
    pub audit: AuditServiceClient<Channel>,
    /// The connection that all stubs use.
    pub channel: Channel,
}

impl Admin {
    /// Connects to this replica.
    pub fn of(server: &Countersign) -> Self {
        Self::over(Endpoint::from_shared(server.grpc_url()).expect("a URL").connect_lazy())
    }

    /// Connects to this replica from this loopback address.
    pub fn from_address(server: &Countersign, address: &str) -> Self {
        let endpoint = Endpoint::from_shared(server.grpc_url())
            .expect("a URL")
            .local_address(Some(address.parse().expect("an address")))
            .timeout(Duration::from_secs(20));
        Self::over(endpoint.connect_lazy())
    }

    /// Uses this connection.
    pub fn over(channel: Channel) -> Self {
        Self {
            tokens: TokenServiceClient::new(channel.clone()),
            users: UserServiceClient::new(channel.clone()),
            clients: ClientServiceClient::new(channel.clone()),
            keys: KeyServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// Creates a user with [`PASSWORD`].
    pub async fn user(&self, name: &str) -> Result<User, Status> {
        let request = CreateUserRequest {
            user: Some(User {
                username: name.to_owned(),
                ..User::default()
            }),
            password: PASSWORD.to_owned(),
        };
        let made = self.users.clone().create_user(request).await?.into_inner();
        Ok(made.user.expect("CreateUser returns the user"))
    }

    /// Creates a client and returns its secret.
    pub async fn client(&self, id: &str, grants: &[Grant], scopes: &[&str], audiences: &[&str]) -> String {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let request = CreateClientRequest {
            client: Some(Client {
                client_id: id.to_owned(),
                grants: grants.iter().map(|grant| i32::from(*grant)).collect(),
                scopes: texts(scopes),
                audiences: texts(audiences),
                ..Client::default()
            }),
        };
        let made = self.clients.clone().create_client(request).await;
        made.expect("CreateClient succeeds").into_inner().client_secret
    }

    /// Changes the fields of a client that `paths` names.
    pub async fn update_client(&self, client: Client, paths: &[&str]) -> Result<(), Status> {
        let request = UpdateClientRequest {
            client: Some(client),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(ToString::to_string).collect(),
            }),
        };
        self.clients.clone().update_client(request).await.map(drop)
    }

    /// Issue with a client secret.
    pub async fn issue_with_secret(
        &self,
        id: &str,
        secret: &str,
        scope: &[&str],
        audience: &[&str],
    ) -> Result<Tokens, Status> {
        let credential = Credential::ClientSecret(ClientSecretCredential {
            secret: secret.to_owned(),
        });
        self.issue(id, credential, scope, audience).await
    }

    /// Issue with [`PASSWORD`].
    pub async fn login(&self, client: &str, name: &str, scope: &[&str], audience: &[&str]) -> Result<Tokens, Status> {
        let credential = Credential::Password(PasswordCredential {
            username: name.to_owned(),
            password: PASSWORD.to_owned(),
        });
        self.issue(client, credential, scope, audience).await
    }

    /// Issue with a wrong password. Returns the reason of the refusal.
    pub async fn guess(&self, name: &str) -> String {
        let credential = Credential::Password(PasswordCredential {
            username: name.to_owned(),
            password: "password of another user".to_owned(),
        });
        let refused = self.issue("", credential, &[], &[]).await;
        reason(&refused.expect_err("the guess is wrong")).1
    }

    /// Issue with any credential.
    pub async fn issue(
        &self,
        client: &str,
        credential: Credential,
        scope: &[&str],
        audience: &[&str],
    ) -> Result<Tokens, Status> {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let request = IssueRequest {
            client_id: client.to_owned(),
            credential: Some(credential),
            scope: texts(scope),
            audience: texts(audience),
            ..IssueRequest::default()
        };
        let answer = self.tokens.clone().issue(request).await?.into_inner();
        Ok(answer.tokens.expect("an issue without an error has tokens"))
    }

    /// The newest audit events of a type.
    pub async fn events(&self, kind: &str) -> Vec<AuditEvent> {
        let request = ListAuditEventsRequest {
            page_size: 1000,
            r#type: kind.to_owned(),
            ..ListAuditEventsRequest::default()
        };
        let listed = self.audit.clone().list_audit_events(request).await;
        listed.expect("ListAuditEvents succeeds").into_inner().events
    }
}
