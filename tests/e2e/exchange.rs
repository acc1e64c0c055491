//! A chain of three services that act for a user. Each exchanges its token for one of its own, which names the
//! services before it.

use std::time::Duration;

use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::{ExchangeCredential, Grant, InactiveReason, Tokens};
use rstest::rstest;
use tonic::Code;

use crate::support::{Admin, Caller, Deployment, DeploymentKind, assert_refused, eventually};

const SERVICES: [&str; 3] = ["orders", "stock", "billing"];

/// Creates three services that may exchange, and returns their secrets.
async fn services(admin: &Admin) -> Vec<String> {
    let mut secrets = Vec::new();
    for service in SERVICES {
        let grants = [Grant::ClientSecret, Grant::Exchange];
        secrets.push(admin.client(service, &grants, &["*"], &["*"]).await);
    }
    secrets
}

/// How the user's session is revoked, given the user's tokens, those of the chain, and the user id.
type RevokeTarget = fn(&Tokens, &[Tokens], &str) -> Target;

/// The token of each service, exchanged for the token of the one before it.
async fn exchange_chain(admin: &Admin, secrets: &[String], user: &Tokens) -> Vec<Tokens> {
    let mut chain = vec![user.clone()];
    for (n, secret) in secrets.iter().enumerate() {
        let own = admin
            .issue_with_secret(SERVICES[n], secret, &[], &["countersign"])
            .await
            .unwrap();
        let credential = Credential::Exchange(ExchangeCredential {
            subject_token: chain[n].access_token.clone(),
            actor_token: own.access_token,
        });
        // Each service may call those after it, and no others.
        let audience = &SERVICES[(n + 1).min(2)..];
        chain.push(admin.issue(SERVICES[n], credential, &["read"], audience).await.unwrap());
    }
    chain
}

#[rstest]
#[tokio::test]
async fn revoking_the_session_revokes_the_chain(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let ada = deployment.add_user("ada", &["--role", "editor"]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let other = (deployment_kind != DeploymentKind::Embedded).then(|| deployment.serve());
    let secrets = services(&admin).await;
    let login = async || admin.login("", "ada", &["read", "write"], &SERVICES).await.unwrap();

    let user = login().await;
    let chain = exchange_chain(&admin, &secrets, &user).await;
    for (n, tokens) in chain.iter().enumerate() {
        let claims = caller.validate(&tokens.access_token).await.unwrap().claims.unwrap();
        assert_eq!((&claims.subject, &claims.session_id), (&ada, &user.session_id));
        assert_eq!(claims.roles, ["editor"]);
        // The newest actor is the outermost.
        let mut actors = Vec::new();
        let mut actor = claims.actor;
        while let Some(this) = actor {
            actors.push(this.client_id);
            actor = this.actor.map(|next| *next);
        }
        let expected: Vec<&str> = SERVICES[..n].iter().rev().copied().collect();
        assert_eq!(actors, expected);
        assert!(tokens.access_expires_at.unwrap().seconds <= user.access_expires_at.unwrap().seconds);
        assert!(n == 0 || tokens.refresh_token.is_empty());
    }

    // By the user's session, by the user, and by the token of the last service of the chain.
    let targets: [RevokeTarget; 3] = [
        |user, _, _| Target::SessionId(user.session_id.clone()),
        |_, _, ada| Target::UserId(ada.to_owned()),
        |_, chain, _| Target::Token(chain[3].access_token.clone()),
    ];
    for revoke_target in targets {
        let (user, bystander) = (login().await, login().await);
        let chain = exchange_chain(&admin, &secrets, &user).await;
        let spared = exchange_chain(&admin, &secrets, &bystander).await;
        let target = revoke_target(&user, &chain, &ada);
        let everything = matches!(target, Target::UserId(_));
        caller.revoke(target).await.unwrap();
        for tokens in &chain {
            let reason = caller.inactive_reason(&tokens.access_token).await;
            assert_eq!(reason, Some(InactiveReason::Revoked), "at once");
        }
        if let Some(other) = &other {
            let there = Caller::of(other);
            for tokens in &chain {
                there.until_revoked(&tokens.access_token).await;
            }
        }
        for tokens in &spared {
            let expected = everything.then_some(InactiveReason::Revoked);
            assert_eq!(caller.inactive_reason(&tokens.access_token).await, expected);
        }
        let own = admin
            .issue_with_secret("orders", &secrets[0], &[], &["countersign"])
            .await
            .unwrap();
        let revoked = Credential::Exchange(ExchangeCredential {
            subject_token: chain[1].access_token.clone(),
            actor_token: own.access_token,
        });
        let refused = admin.issue("orders", revoked, &[], &["billing"]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }

    // Disabling a service revokes all tokens that name it, and no others.
    let user = login().await;
    let chain = exchange_chain(&admin, &secrets, &user).await;
    let disabled = countersign::proto::Client {
        client_id: "stock".into(),
        disabled: true,
        ..Default::default()
    };
    admin.update_client(disabled, &["disabled"]).await.unwrap();
    eventually(
        "the disabled service's tokens are revoked",
        Duration::from_secs(5),
        || async { (caller.inactive_reason(&chain[2].access_token).await.is_some()).then_some(()) },
    )
    .await;
    for (n, expected) in [None, None, Some(InactiveReason::Revoked), Some(InactiveReason::Revoked)]
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            caller.inactive_reason(&chain[n].access_token).await,
            expected,
            "link {n}"
        );
    }
}

/// Every service of another audience holds the client's tokens, and must not act in its name.
#[tokio::test]
async fn an_actor_token_is_for_countersign() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let admin = Admin::of(&server);
    let secrets = services(&admin).await;
    let user = admin.login("", "ada", &[], &SERVICES).await.unwrap();
    let exchange = async |audience: &[&str]| {
        let own = admin.issue_with_secret("orders", &secrets[0], &[], audience).await;
        let credential = Credential::Exchange(ExchangeCredential {
            subject_token: user.access_token.clone(),
            actor_token: own.unwrap().access_token,
        });
        admin.issue("orders", credential, &[], &["stock"]).await
    };
    for elsewhere in [&[][..], &["stock"], &["orders", "stock"]] {
        let refused = exchange(elsewhere).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }
    exchange(&["countersign"]).await.unwrap();
    exchange(&["stock", "countersign"]).await.unwrap();
}
