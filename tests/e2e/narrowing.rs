//! A refresh may request less than the session was granted, and the session keeps its grant. It may never request
//! more.

use countersign::proto::issue_request::Credential;
use countersign::proto::{IssueRequest, PasswordCredential, RefreshRequest, Tokens};
use rstest::rstest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::caller::reason;
use crate::support::{Caller, Deployment, DeploymentKind, PASSWORD, assert_refused};

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

async fn login(caller: &Caller, client: &str) -> Tokens {
    let request = IssueRequest {
        client_id: client.to_owned(),
        credential: Some(Credential::Password(PasswordCredential {
            username: "ada".to_owned(),
            password: PASSWORD.to_owned(),
        })),
        scope: names(&["read", "write"]),
        audience: names(&["api", "mail"]),
        ..IssueRequest::default()
    };
    let issued = caller.tokens.clone().issue(request).await;
    issued.unwrap().into_inner().tokens.unwrap()
}

async fn refresh(caller: &Caller, session: &Tokens, scope: &[&str], audience: &[&str]) -> Result<Tokens, Status> {
    let request = RefreshRequest {
        refresh_token: session.refresh_token.clone(),
        scope: names(scope),
        audience: names(audience),
        ..RefreshRequest::default()
    };
    let refreshed = caller.tokens.clone().refresh(request).await?;
    Ok(refreshed.into_inner().tokens.unwrap())
}

fn field(status: &Status) -> String {
    let details = status.get_details_bad_request().expect("the error names a field");
    details.field_violations[0].field.clone()
}

#[rstest]
#[tokio::test]
async fn a_refresh_may_request_less_but_not_more_and_the_grant_stays(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered, DeploymentKind::RedisCluster)]
    deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    deployment.add_user("ada", &[]);
    let add = ["client", "add", "web", "--grant", "password"];
    let allowed = ["--scope", "read", "--scope", "write", "--scope", "admin"];
    let audiences = ["--audience", "api", "--audience", "mail", "--audience", "bank"];
    deployment
        .storage
        .run(&[&add[..], &allowed, &audiences].concat())
        .succeed();
    let server = deployment.serve();
    let caller = Caller::of(&server);

    let first = login(&caller, "web").await;
    for (scope, audience, at) in [
        (&["read", "admin"][..], &[][..], "scope[1]"),
        (&[], &["bank"], "audience[0]"),
    ] {
        let wider = refresh(&caller, &first, scope, audience).await.unwrap_err();
        assert_eq!(reason(&wider), (Code::InvalidArgument, "WIDER_THAN_GRANTED".to_owned()));
        assert_eq!(field(&wider), at);
    }
    let less = refresh(&caller, &first, &["write"], &["mail"]).await.unwrap();
    assert_eq!(
        (less.scope.clone(), less.audience.clone()),
        (names(&["write"]), names(&["mail"]))
    );
    let all = refresh(&caller, &less, &[], &[]).await.unwrap();
    assert_eq!((all.scope.clone(), all.audience.clone()), (first.scope, first.audience));

    // What the client loses, its sessions lose too: silently, unless a refresh requests exactly that.
    let fewer = ["client", "update", "web", "--scope", "read", "--audience", "api"];
    deployment.storage.run(&fewer).succeed();
    let lost = refresh(&caller, &all, &["write"], &[]).await;
    assert_refused(lost, Code::PermissionDenied, "SCOPE_NOT_ALLOWED");
    let lost = refresh(&caller, &all, &[], &["mail"]).await;
    assert_refused(lost, Code::PermissionDenied, "AUDIENCE_NOT_ALLOWED");
    let rest = refresh(&caller, &all, &[], &[]).await.unwrap();
    assert_eq!((rest.scope, rest.audience), (names(&["read"]), names(&["api"])));
}
