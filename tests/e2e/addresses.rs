//! The address of a user in `context.ip_address`: who may state it, and what must be in it.

use countersign::proto::issue_request::Credential;
use countersign::proto::{
    Grant, IssueRequest, ListSessionsRequest, PasswordCredential, RefreshRequest, SessionContext,
};
use rstest::rstest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::raw::with_bearer;
use crate::support::web::metric;
use crate::support::{Admin, Deployment, DeploymentKind, PASSWORD, assert_refused};

fn context(ip_address: &str) -> SessionContext {
    SessionContext {
        ip_address: ip_address.to_owned(),
        ..SessionContext::default()
    }
}

/// Logs in with a stated address; without a token if it is empty. Returns the refresh token.
async fn login(admin: &Admin, token: &str, ip_address: &str) -> Result<String, Status> {
    let request = IssueRequest {
        credential: Some(Credential::Password(PasswordCredential {
            username: "ada".into(),
            password: PASSWORD.into(),
        })),
        context: Some(context(ip_address)),
        ..IssueRequest::default()
    };
    let issued = admin.tokens.clone().issue(with_bearer(request, token)).await?;
    Ok(issued.into_inner().tokens.unwrap().refresh_token)
}

async fn refresh(admin: &Admin, token: &str, refresh_token: &str, ip_address: &str) -> Result<String, Status> {
    let request = RefreshRequest {
        refresh_token: refresh_token.to_owned(),
        context: Some(context(ip_address)),
        ..RefreshRequest::default()
    };
    let refreshed = admin.tokens.clone().refresh(with_bearer(request, token)).await?;
    Ok(refreshed.into_inner().tokens.unwrap().refresh_token)
}

#[rstest]
#[tokio::test]
async fn a_believed_address_must_be_one_and_others_are_ignored_with_a_hint(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let scopes = ["countersign:issue", "countersign:refresh"];
    let secret = admin.client("web", &[Grant::ClientSecret], &scopes, &[]).await;
    let token = admin
        .issue_with_secret("web", &secret, &scopes, &[])
        .await
        .unwrap()
        .access_token;
    let addresses = async || {
        let request = ListSessionsRequest { user_id: ada.clone() };
        let listed = admin.users.clone().list_sessions(request).await.unwrap().into_inner();
        let mut listed: Vec<_> = listed
            .sessions
            .into_iter()
            .map(|session| session.context.unwrap().ip_address)
            .collect();
        listed.sort();
        listed
    };

    let refresh_token = login(&admin, &token, "2001:DB8::00ff").await.unwrap();
    login(&admin, &token, "::ffff:192.0.2.7").await.unwrap();
    login(&admin, &token, "").await.unwrap();
    assert_eq!(
        addresses().await,
        ["127.0.0.1", "192.0.2.7", "2001:db8::ff"],
        "whole, in canonical form"
    );
    for text in [
        "192.0.2.7:443",
        "[2001:db8::1]",
        "fe80::1%eth0",
        "localhost",
        " 192.0.2.7",
        "192.0.2.300",
    ] {
        for refused in [
            login(&admin, &token, text).await,
            refresh(&admin, &token, &refresh_token, text).await,
        ] {
            let status = refused.as_ref().unwrap_err();
            let details = status.get_details_bad_request().expect("the error names the field");
            assert_eq!(details.field_violations[0].field, "context.ip_address", "{text}");
            assert_refused(refused, Code::InvalidArgument, "INVALID_REQUEST");
        }
    }
    let refresh_token = refresh(&admin, &token, &refresh_token, "2001:db8::fe").await.unwrap();
    assert!(addresses().await.contains(&"2001:db8::fe".to_owned()));
    assert!(metric(&server, "countersign_ignored_addresses_total").abs() < 0.5);

    // A caller without a token is not believed, whatever it states. The operator is told once a minute.
    for text in ["203.0.113.5", "203.0.113.6", "not an address", "127.0.0.1"] {
        login(&admin, "", text).await.unwrap();
    }
    refresh(&admin, "", &refresh_token, "not an address").await.unwrap();
    assert!(addresses().await.iter().all(|address| !address.starts_with("203.")));
    let ignored = metric(&server, "countersign_ignored_addresses_total");
    assert!(
        (ignored - 3.0).abs() < 0.5,
        "{ignored}: a caller that states its own address needs no hint"
    );
    let log = server.log();
    let hints: Vec<_> = log
        .lines()
        .filter(|line| line.contains("context.ip_address of a login is ignored"))
        .collect();
    assert_eq!(hints.len(), 1, "{log}");
    assert!(
        hints[0].contains("anonymous") && hints[0].contains("default"),
        "{}",
        hints[0]
    );
}
