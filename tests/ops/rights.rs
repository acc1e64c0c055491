//! A Redis user with exactly the rights that the runbook lists, and Redis Clusters that announce names or no addresses.

use std::path::Path;
use std::time::Duration;

use rstest::rstest;

use crate::support::deployment::{add_user, for_tests};
use crate::support::redis::command;
use crate::support::serve::Storage;
use crate::support::{Admin, Caller, Database, PASSWORD, Redis, RedisCluster, eventually};

/// The rights of the runbook, word by word.
fn documented_rights() -> Vec<String> {
    let runbook = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/RUNBOOK.md");
    let text = std::fs::read_to_string(runbook).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let start = lines
        .iter()
        .position(|line| line.contains("ACL SETUSER countersign on"))
        .expect("the runbook has the rights");
    let rule: String = lines[start..]
        .iter()
        .take_while(|line| !line.starts_with("```"))
        .copied()
        .collect();
    let (_, rights) = rule.split_once("resetkeys").expect("the rights begin with resetkeys");
    let rights = format!("resetkeys{}", rights.replace('\\', " "));
    rights.split_whitespace().map(str::to_owned).collect()
}

/// Creates the user `countersign` with these rights on a server.
fn restrict(url: &str, rights: &[String]) {
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    command(
        url,
        &[
            &["ACL", "SETUSER", "countersign", "reset", "on", ">secret"],
            &rights[..],
        ]
        .concat(),
    );
}

fn as_user(url: &str) -> String {
    url.replace("://", "://countersign:secret@")
}

/// Everything that uses Redis: sessions, announcements, counters and throttles.
async fn use_everything(storage: &Storage) {
    add_user(storage, "ada", &[]);
    let (server, other) = (storage.serve(&[]), storage.serve(&[]));
    let (caller, admin) = (Caller::of(&server), Admin::of(&server));
    let session = caller.login("ada").await;
    let second = caller.login("ada").await;
    let (next, _) = caller.refresh(&session.refresh_token).await.unwrap();
    let (_, outcome) = caller.refresh(&session.refresh_token).await.unwrap();
    assert_eq!(outcome, countersign::proto::RefreshOutcome::Replayed);
    caller.issue("ada", "a wrong password").await.unwrap_err();
    let listed = storage.run(&["session", "list", "ada"]).json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2, "{listed}");
    let target = countersign::proto::revoke_request::Target::Token(next.refresh_token.clone());
    caller.revoke(target).await.unwrap();
    Caller::of(&other).until_revoked(&next.access_token).await;
    storage.run(&["session", "revoke-all", "--user", "ada"]).succeed();
    Caller::of(&other).until_revoked(&second.access_token).await;
    assert!(!admin.events("token.revoked").await.is_empty() || !admin.events("session.revoked").await.is_empty());
    assert_eq!(server.stop().code(), Some(0));
}

fn with_limits(database: &Database, url: &str) -> Storage {
    for_tests(Storage::clustered(database.url(), url, "cs"))
        .set("throttle.enabled", "true")
        .set("tokens.max_sessions_per_user", "5")
        .set("server.listen", "127.0.0.1:0")
        .set("server.http_listen", "127.0.0.1:0")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_suffice() {
    let (database, redis) = (Database::fresh().await, Redis::start(&["--appendonly", "yes"]));
    restrict(&redis.url(), &documented_rights());
    // With a database number, which has to be selected.
    let storage = with_limits(&database, &format!("{}/3", as_user(&redis.url())));
    use_everything(&storage).await;
    let refusals = redis.command(&["ACL", "LOG"]);
    let lines: Vec<&str> = refusals.lines().collect();
    let refused = lines.windows(2).filter(|pair| pair[0] == "object").map(|pair| pair[1]);
    // CONFIG GET tells whether snapshots are on; without the right the answer is taken for yes.
    let refused: Vec<&str> = refused.filter(|command| *command != "config|get").collect();
    assert!(refused.is_empty(), "{refusals}");
    let report = storage.run(&["doctor"]).finish();
    assert!(
        report
            .stdout
            .lines()
            .any(|line| line.starts_with("ok") && line.contains("redis")),
        "{}",
        report.stdout
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_missing_right_is_named_by_doctor() {
    let (database, redis) = (Database::fresh().await, Redis::start(&["--appendonly", "yes"]));
    let rights = documented_rights();
    // Those are of no use outside of a cluster, without a database number, or only for the log of the server and the number
    // of sessions.
    let spared = [
        "+select",
        "+client|id",
        "+cluster|slots",
        "+cluster|info",
        "+scan",
        "+dbsize",
    ];
    let storage = with_limits(&database, &as_user(&redis.url()));
    let mut checked = 0;
    for right in rights
        .iter()
        .filter(|right| right.starts_with('+') && !spared.contains(&right.as_str()))
    {
        let others: Vec<String> = rights.iter().filter(|other| *other != right).cloned().collect();
        restrict(&redis.url(), &others);
        let report = storage.run(&["doctor", "--output", "json"]).finish();
        let name = right[1..].to_uppercase().replace('|', " ");
        assert!(
            report.stdout.contains(&format!("may not run {name}:")),
            "{right}: {}",
            report.stdout
        );
        assert_ne!(report.code(), Some(0), "{right}");
        checked += 1;
    }
    assert!(checked > 15, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_suffice_in_a_cluster() {
    let (database, cluster) = (
        Database::fresh().await,
        RedisCluster::start(3, &["--appendonly", "yes"]),
    );
    for master in &cluster.masters {
        restrict(&master.url(), &documented_rights());
    }
    use_everything(&with_limits(&database, &as_user(&cluster.url()))).await;
    // One node has other rights than the others.
    let rights: Vec<String> = documented_rights()
        .into_iter()
        .filter(|right| right != "+hdel")
        .collect();
    restrict(&cluster.masters[1].url(), &rights);
    let storage = with_limits(&database, &as_user(&cluster.url()));
    let refused = storage.try_serve(&[]).unwrap_err();
    assert!(refused.stderr.contains("may not run HDEL:"), "{}", refused.stderr);
}

/// The nodes of a cluster are known by names, or by no address: then they are where the node is that was asked.
#[rstest]
#[case::names("hostname", Some("localhost"))]
#[case::addresses_with_names("ip", Some("localhost"))]
#[case::no_addresses("unknown-endpoint", None)]
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_announces_names_or_nothing_is_used(#[case] preferred: &str, #[case] name: Option<&str>) {
    let (database, cluster) = (
        Database::fresh().await,
        RedisCluster::start(3, &["--appendonly", "yes"]),
    );
    for master in &cluster.masters {
        if let Some(name) = name {
            master.command(&["CONFIG", "SET", "cluster-announce-hostname", name]);
        }
        master.command(&["CONFIG", "SET", "cluster-preferred-endpoint-type", preferred]);
    }
    if let Some(name) = name {
        eventually("every node knows the names", Duration::from_secs(30), || async {
            let known = |master: &Redis| {
                master
                    .command(&["CLUSTER", "NODES"])
                    .matches(&format!(",{name}"))
                    .count()
            };
            cluster.masters.iter().all(|master| known(master) == 3).then_some(())
        })
        .await;
    }
    let storage = with_limits(&database, &cluster.url());
    use_everything(&storage).await;
    let report = storage.run(&["doctor"]).finish();
    assert!(
        report
            .stdout
            .lines()
            .any(|line| line.starts_with("ok") && line.contains("redis")),
        "{}",
        report.stdout
    );
    let server = storage.serve(&[]);
    // Users on every master.
    for n in 0..6 {
        add_user(&storage, &format!("user-{n}"), &[]);
        Caller::of(&server).issue(&format!("user-{n}"), PASSWORD).await.unwrap();
    }
}

/// The message of the service, the runbook and the secrets of the compose file name the same rights.
#[test]
fn every_list_of_the_rights_is_the_same() {
    let rights = documented_rights();
    let of_the_service: Vec<&str> = countersign::store::redis::ACL_RULES.split_whitespace().collect();
    assert_eq!(rights, of_the_service);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/make-secrets");
    let text = std::fs::read_to_string(script).unwrap();
    let mut lines = text
        .lines()
        .map(str::trim)
        .filter_map(|line| line.strip_prefix("rights"));
    let mut of_compose = String::new();
    for line in &mut lines {
        of_compose.push_str(line.trim_start_matches('+').trim_start_matches('=').trim_matches('\''));
    }
    assert_eq!(rights, of_compose.split_whitespace().collect::<Vec<_>>());
}
