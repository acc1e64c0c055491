//! `countersign agent` answers as its upstream does, from local memory, for services on the same machine.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::time::Duration;

use countersign::client::{Client, Credential};
use countersign::proto::revoke_request::Target;
use countersign::proto::{
    Consistency, GetKeysRequest, InactiveReason, IssueRequest, RefreshRequest, RevokeRequest, ValidateBatchRequest,
    ValidateRequest, ValidateResponse,
};
use nix::sys::signal::Signal;
use proptest::prelude::*;
use tonic::Code;

use crate::support::agent::{Agent, listen_anywhere};
use crate::support::guard;
use crate::support::{Caller, Countersign, Deployment, DeploymentKind, assert_refused, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

/// The parts of an answer that do not depend on when it was given.
fn without_times(answer: ValidateResponse) -> ValidateResponse {
    assert!(answer.revocations_as_of.is_some());
    assert_eq!(answer.cache_until.is_some(), answer.active);
    ValidateResponse {
        revocations_as_of: None,
        cache_until: None,
        ..answer
    }
}

#[tokio::test]
async fn the_agent_answers_as_its_upstream_does() {
    // The agent learns the issuer from its upstream; it is not configured twice.
    let deployment = Deployment::fresh(DeploymentKind::Embedded)
        .await
        .set("tokens.issuer", "https://issuer.example");
    deployment.add_user("ada", &["--role", "editor"]);
    let server = deployment.serve();
    let upstream = Caller::of(&server);
    let agent = Agent::start(&deployment.storage, &server, &listen_anywhere(), &[]);
    let local = agent.caller().await;

    let (good, revoked) = (upstream.login("ada").await, upstream.login("ada").await);
    upstream
        .revoke(Target::Token(revoked.access_token.clone()))
        .await
        .unwrap();
    local.until_revoked(&revoked.access_token).await;
    let (signed, _) = good.access_token.rsplit_once('.').unwrap();
    let cases = [
        (good.access_token.clone(), "", None, None),
        (good.access_token.clone(), "api", None, None),
        (
            good.access_token.clone(),
            "mail",
            None,
            Some(InactiveReason::WrongAudience),
        ),
        (
            good.access_token.clone(),
            "",
            Some("admin"),
            Some(InactiveReason::InsufficientScope),
        ),
        (revoked.access_token, "", None, Some(InactiveReason::Revoked)),
        (
            format!("{signed}.{}", "A".repeat(86)),
            "",
            None,
            Some(InactiveReason::BadSignature),
        ),
        (good.refresh_token.clone(), "", None, Some(InactiveReason::WrongType)),
        ("garbage".to_owned(), "", None, Some(InactiveReason::Malformed)),
    ];
    for (access_token, audience, scope, reason) in cases {
        for consistency in [Consistency::Local, Consistency::Strong] {
            let request = ValidateRequest {
                access_token: access_token.clone(),
                audience: audience.to_owned(),
                required_scopes: scope.iter().map(ToString::to_string).collect(),
                consistency: consistency.into(),
            };
            let answer = local
                .tokens
                .clone()
                .validate(request.clone())
                .await
                .unwrap()
                .into_inner();
            assert_eq!((!answer.active).then(|| answer.reason()), reason);
            let expected = upstream.tokens.clone().validate(request).await.unwrap().into_inner();
            assert_eq!(without_times(answer), without_times(expected));
        }
    }
    assert_refused(local.validate("").await, Code::InvalidArgument, "INVALID_REQUEST");
}

#[tokio::test]
async fn the_agent_serves_only_validation() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let agent = Agent::start(&deployment.storage, &server, &listen_anywhere(), &[]);
    let mut tokens = agent.caller().await.tokens;
    let refused = [
        tokens.issue(IssueRequest::default()).await.unwrap_err(),
        tokens.refresh(RefreshRequest::default()).await.unwrap_err(),
        tokens.revoke(RevokeRequest::default()).await.unwrap_err(),
        tokens.get_keys(GetKeysRequest {}).await.unwrap_err(),
    ];
    assert!(
        refused.iter().all(|status| status.code() == Code::Unimplemented),
        "{refused:?}"
    );
}

#[tokio::test]
async fn without_its_upstream_the_agent_answers_until_max_staleness() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let mut server = deployment.serve();
    let upstream = Caller::of(&server);
    let agent = Agent::start(
        &deployment.storage,
        &server,
        &listen_anywhere(),
        &[("COUNTERSIGN_REVOCATION__MAX_STALENESS", "12s")],
    );
    let local = agent.caller().await;
    let token = upstream.login("ada").await.access_token;
    local.assert_active(&token).await;

    server.signal(Signal::SIGSTOP);
    let stopped = tokio::time::Instant::now();
    while stopped.elapsed() < Duration::from_secs(3) {
        local.assert_active(&token).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let refusal = eventually("the agent's data is stale", TIMEOUT, || async {
        local.validate(&token).await.err()
    })
    .await;
    assert_refused(Err::<(), _>(refusal), Code::Unavailable, "REVOCATIONS_STALE");
    server.signal(Signal::SIGCONT);
    eventually("the agent follows its upstream again", TIMEOUT, || async {
        local.validate(&token).await.ok()
    })
    .await;
    local.assert_active(&token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_socket_is_accessible_only_to_its_owner() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    deployment.add_user("ada", &[]);
    let server = deployment.serve();
    let path = guard::scratch("sock").join("a");
    let listen = format!("unix:{}", path.display());
    let mut agent = Agent::start(&deployment.storage, &server, &listen, &[]);
    let local = agent.caller().await;
    let there = path.symlink_metadata().unwrap();
    assert!(there.file_type().is_socket());
    assert_eq!(there.mode() & 0o777, 0o600);
    local
        .assert_active(&Caller::of(&server).login("ada").await.access_token)
        .await;
    agent.process.signal(Signal::SIGTERM);
    assert!(agent.process.wait(TIMEOUT).success(), "{}", agent.process.log());
    assert!(!path.exists());
}

#[tokio::test]
async fn an_unusable_configuration_is_refused_at_the_start() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let server = deployment.serve();
    let run = |words: &[&str]| deployment.storage.run(words).finish().code();
    let upstream = server.grpc_url();
    assert_eq!(
        run(&["agent", "--upstream", &upstream, "--listen", "0.0.0.0:0"]),
        Some(64)
    );
    assert_eq!(run(&["agent", "--upstream", &upstream, "--listen", "unix:"]), Some(64));
    assert_eq!(
        run(&["agent", "--upstream", "ftp://x", "--listen", "127.0.0.1:0"]),
        Some(64)
    );
    assert_eq!(run(&["agent", "--listen", "127.0.0.1:0"]), Some(64));
    assert_eq!(run(&["agent", "--upstream", &upstream]), Some(64));
    // A secret that the upstream does not accept is an error of configuration, not an outage.
    let stranger = deployment
        .storage
        .run(&["agent", "--upstream", &upstream, "--listen", "127.0.0.1:0"])
        .env("COUNTERSIGN_AGENT__CLIENT_ID", "stranger")
        .env("COUNTERSIGN_AGENT__CLIENT_SECRET", "wrong")
        .finish();
    assert_eq!(stranger.code(), Some(1), "{}", stranger.stderr);
}

/// A client library instance that authenticates with a secret of its own client.
fn client_with_secret(deployment: &Deployment, server: &Countersign) -> Client {
    let made = deployment.storage.run(&[
        "client",
        "add",
        "batches",
        "--grant",
        "client_secret",
        "--scope",
        "countersign:validate",
    ]);
    Client::builder(server.grpc_url())
        .credential(Credential::Secret {
            client_id: "batches".to_owned(),
            secret: made.json()["clientSecret"].as_str().unwrap().to_owned().into(),
            scope: vec!["countersign:validate".to_owned()],
        })
        .deadline(TIMEOUT)
        .connect_lazy()
        .unwrap()
}

#[test]
fn a_batch_gets_the_answers_of_its_tokens_one_by_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (deployment, server, client, tokens) = runtime.block_on(async {
        let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
        deployment.add_user("ada", &[]);
        let server = deployment.serve();
        let caller = Caller::of(&server);
        let mut tokens = vec!["garbage".to_owned(), "a.b.c".to_owned()];
        for n in 0..40 {
            let issued = caller.login("ada").await;
            if n % 4 == 0 {
                caller.revoke(Target::Token(issued.access_token.clone())).await.unwrap();
            }
            if n % 5 == 0 {
                tokens.push(issued.refresh_token);
            }
            let (signed, signature) = issued.access_token.rsplit_once('.').unwrap();
            tokens.push(format!("{signed}.{}", signature.chars().rev().collect::<String>()));
            tokens.push(issued.access_token);
        }
        let client = client_with_secret(&deployment, &server);
        (deployment, server, client, tokens)
    });
    let one = (0..tokens.len(), 0..3_usize, any::<bool>(), any::<bool>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(60));
    let outcome = runner.run(&prop::collection::vec(one, 1..=256), |picked| {
        let requests: Vec<ValidateRequest> = picked
            .into_iter()
            .map(|(token, audience, scoped, strong)| ValidateRequest {
                access_token: tokens[token].clone(),
                audience: ["", "api", "mail"][audience].to_owned(),
                required_scopes: scoped.then(|| "read".to_owned()).into_iter().collect(),
                // Only some of the tokens need the store, so that a case does not take long.
                consistency: i32::from(strong && token.is_multiple_of(9)) * 2,
            })
            .collect();
        let (batch, alone) = runtime.block_on(async {
            let batch = client.validate_batch(requests.clone()).await.unwrap();
            let mut alone = Vec::new();
            for request in requests {
                alone.push(client.ask(request).await.unwrap());
            }
            (batch, alone)
        });
        let said_all = |answers: Vec<ValidateResponse>| answers.into_iter().map(without_times).collect::<Vec<_>>();
        prop_assert_eq!(said_all(batch), said_all(alone));
        Ok(())
    });
    outcome.unwrap();

    runtime.block_on(async {
        let mut caller = Caller::of(&server).tokens;
        for count in [0, 257] {
            let request = ValidateBatchRequest {
                requests: vec![
                    ValidateRequest {
                        access_token: "x".into(),
                        ..ValidateRequest::default()
                    };
                    count
                ],
            };
            assert_refused(
                caller.validate_batch(request).await,
                Code::InvalidArgument,
                "INVALID_REQUEST",
            );
        }
        // The first request that cannot be answered is named, wherever it is in the batch.
        let mut requests = vec![
            ValidateRequest {
                access_token: tokens[0].clone(),
                ..ValidateRequest::default()
            };
            200
        ];
        requests[150].access_token.clear();
        requests[151].access_token.clear();
        let refusal = caller
            .validate_batch(ValidateBatchRequest { requests })
            .await
            .unwrap_err();
        assert!(
            refusal.message().starts_with("requests[150].access_token"),
            "{}",
            refusal.message()
        );
    });
    drop((deployment, server));
}
