//! A chain of three services that act for a person, each with a token of its own that says who stands behind it.

use std::time::Duration;

use countersign::proto::issue_request::Credential;
use countersign::proto::revoke_request::Target;
use countersign::proto::{ExchangeCredential, Grant, InactiveReason, Tokens};
use rstest::rstest;
use tonic::Code;

use crate::support::{Admin, Caller, Deployment, Shape, assert_refused, eventually};

const SERVICES: [&str; 3] = ["orders", "stock", "billing"];

/// The secrets of three services that may exchange.
async fn services(admin: &Admin) -> Vec<String> {
    let mut secrets = Vec::new();
    for service in SERVICES {
        let grants = [Grant::ClientSecret, Grant::Exchange];
        secrets.push(admin.client(service, &grants, &["*"], &["*"]).await);
    }
    secrets
}

/// How a person's session ends, of the person's tokens, those of the chain and the person's id.
type End = fn(&Tokens, &[Tokens], &str) -> Target;

/// What each service gets for the token of the one before it.
async fn chain(admin: &Admin, secrets: &[String], person: &Tokens) -> Vec<Tokens> {
    let mut held = vec![person.clone()];
    for (n, secret) in secrets.iter().enumerate() {
        let own = admin.issue_with_secret(SERVICES[n], secret, &[], &[]).await.unwrap();
        let credential = Credential::Exchange(ExchangeCredential {
            subject_token: held[n].access_token.clone(),
            actor_token: own.access_token,
        });
        // Each may reach those after it, and no others.
        let audience = &SERVICES[(n + 1).min(2)..];
        held.push(admin.issue(SERVICES[n], credential, &["read"], audience).await.unwrap());
    }
    held
}

#[rstest]
#[tokio::test]
async fn the_end_of_the_session_is_the_end_of_the_chain(#[values(Shape::Embedded, Shape::Clustered)] shape: Shape) {
    let deployment = Deployment::fresh(shape).await;
    let ada = deployment.add_user("ada", &["--role", "editor"]);
    let server = deployment.serve();
    let (admin, caller) = (Admin::of(&server), Caller::of(&server));
    let other = (shape != Shape::Embedded).then(|| deployment.serve());
    let secrets = services(&admin).await;
    let login = async || admin.login("", "ada", &["read", "write"], &SERVICES).await.unwrap();

    let person = login().await;
    let held = chain(&admin, &secrets, &person).await;
    for (n, tokens) in held.iter().enumerate() {
        let claims = caller.validate(&tokens.access_token).await.unwrap().claims.unwrap();
        assert_eq!((&claims.subject, &claims.session_id), (&ada, &person.session_id));
        assert_eq!(claims.roles, ["editor"]);
        // The newest stands outermost.
        let mut actors = Vec::new();
        let mut actor = claims.actor;
        while let Some(this) = actor {
            actors.push(this.client_id);
            actor = this.actor.map(|next| *next);
        }
        let expected: Vec<&str> = SERVICES[..n].iter().rev().copied().collect();
        assert_eq!(actors, expected);
        assert!(tokens.access_expires_at.unwrap().seconds <= person.access_expires_at.unwrap().seconds);
        assert!(n == 0 || tokens.refresh_token.is_empty());
    }

    // By the session of the person, by the person, and by the token of the last in the chain.
    let ends: [End; 3] = [
        |person, _, _| Target::SessionId(person.session_id.clone()),
        |_, _, ada| Target::UserId(ada.to_owned()),
        |_, held, _| Target::Token(held[3].access_token.clone()),
    ];
    for end in ends {
        let (person, bystander) = (login().await, login().await);
        let held = chain(&admin, &secrets, &person).await;
        let spared = chain(&admin, &secrets, &bystander).await;
        let target = end(&person, &held, &ada);
        let everything = matches!(target, Target::UserId(_));
        caller.revoke(target).await.unwrap();
        for tokens in &held {
            let reason = caller.inactive_reason(&tokens.access_token).await;
            assert_eq!(reason, Some(InactiveReason::Revoked), "at once");
        }
        if let Some(other) = &other {
            let there = Caller::of(other);
            for tokens in &held {
                there.until_revoked(&tokens.access_token).await;
            }
        }
        for tokens in &spared {
            let expected = everything.then_some(InactiveReason::Revoked);
            assert_eq!(caller.inactive_reason(&tokens.access_token).await, expected);
        }
        let own = admin.issue_with_secret("orders", &secrets[0], &[], &[]).await.unwrap();
        let dead = Credential::Exchange(ExchangeCredential {
            subject_token: held[1].access_token.clone(),
            actor_token: own.access_token,
        });
        let refused = admin.issue("orders", dead, &[], &["billing"]).await;
        assert_refused(refused, Code::Unauthenticated, "INVALID_CREDENTIALS");
    }

    // A service that is disabled takes with it what it stands in, and nothing else.
    let person = login().await;
    let held = chain(&admin, &secrets, &person).await;
    let disabled = countersign::proto::Client {
        client_id: "stock".into(),
        disabled: true,
        ..Default::default()
    };
    admin.update_client(disabled, &["disabled"]).await.unwrap();
    eventually(
        "the disabled service's tokens are dead",
        Duration::from_secs(5),
        || async { (caller.inactive_reason(&held[2].access_token).await.is_some()).then_some(()) },
    )
    .await;
    for (n, expected) in [None, None, Some(InactiveReason::Revoked), Some(InactiveReason::Revoked)]
        .into_iter()
        .enumerate()
    {
        assert_eq!(
            caller.inactive_reason(&held[n].access_token).await,
            expected,
            "link {n}"
        );
    }
}
