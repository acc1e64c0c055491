//! `user import`: users of other systems, their hashes, and files as people have them.

use rstest::rstest;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{Caller, Deployment, DeploymentKind, PASSWORD, assert_refused};

/// A hash of [`PASSWORD`].
const BCRYPT: &str = "$2b$04$ou8wi17ShJ.EI7nUcAhdBuNnkBbZgmOB57otUfkgbuW.q359KZN56";

/// One hash of each tool and format.
fn foreign_hashes() -> Vec<(String, String)> {
    let files = [
        include_str!("../vectors/hashes/python.jsonl"),
        include_str!("../vectors/hashes/node.jsonl"),
        include_str!("../vectors/hashes/php.jsonl"),
    ];
    let lines = files.iter().flat_map(|file| file.lines());
    let vectors = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |vector: &Value, name: &str| vector[name].as_str().unwrap().to_owned();
    vectors
        .filter(|vector| vector["password"] == "correct horse")
        .map(|vector| (text(&vector, "password"), text(&vector, "hash")))
        .collect()
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn users_with_hashes_of_other_systems_log_in_and_get_argon2id_hashes(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let hashes = foreign_hashes();
    assert!(hashes.len() > 50);
    let rows = hashes.iter().enumerate();
    let lines: Vec<String> = rows
        .map(|(n, (_, hash))| json!({"username": format!("user{n}"), "password_hash": hash}).to_string())
        .collect();
    let file = lines.join("\n");
    let done = deployment.storage.run(&["user", "import", "-"]).input(file).json();
    assert_eq!(done["imported"], hashes.len(), "{done}");

    let server = deployment.serve();
    let caller = Caller::of(&server);
    for (n, (password, hash)) in hashes.iter().enumerate() {
        let name = format!("user{n}");
        assert_refused(
            caller.issue(&name, "correct horsf").await,
            Code::Unauthenticated,
            "INVALID_CREDENTIALS",
        );
        // The second login is by the new hash.
        for _ in 0..2 {
            caller
                .issue(&name, password)
                .await
                .unwrap_or_else(|status| panic!("{hash}: {status}"));
        }
    }
    if let Some(database) = &deployment.database {
        let left = database
            .scalar("SELECT count(*)::text FROM users WHERE password_hash NOT LIKE '$argon2id$v=19$m=1024,t=1,p=1$%'");
        assert_eq!(left.await, "0");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread")]
async fn of_two_rows_with_one_name_the_first_wins_and_the_second_is_reported_by_its_line(
    #[values(DeploymentKind::Embedded, DeploymentKind::Clustered)] deployment_kind: DeploymentKind,
) {
    let deployment = Deployment::fresh(deployment_kind).await;
    let lines: Vec<String> = (0..50)
        .map(|n| {
            let first = json!({"username": format!("user{n}"), "display_name": "first", "password_hash": BCRYPT});
            let second = json!({"username": format!("USER{n}"), "display_name": "second"});
            format!("{first}\n\n{second}")
        })
        .collect();
    let file = lines.join("\n");
    let done = deployment.storage.run(&["user", "import", "-"]).input(&file).finish();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let said: Vec<&str> = done.stdout.lines().collect();
    assert_eq!((said.len(), said[50]), (51, "50 imported, 50 rejected"), "{done:?}");
    for (n, line) in said[..50].iter().enumerate() {
        let expected = format!("line {}: user.username: a user of this name exists", 3 * n + 3);
        assert_eq!(*line, expected);
    }
    let server = deployment.serve();
    for n in [0, 25, 49] {
        let name = format!("user{n}");
        let user = deployment.storage.run(&["user", "show", &name]).json();
        assert!(user.to_string().contains("first"), "{user}");
        Caller::of(&server)
            .issue(&name, PASSWORD)
            .await
            .expect("the hash of the first row");
    }
    // As JSON, the messages have the lines.
    let again = deployment
        .storage
        .run(&["user", "import", "-", "--output", "json"])
        .input(&file)
        .finish();
    let again: Value = serde_json::from_str(&again.stdout).unwrap();
    let message = again["rejected"][1]["message"].as_str().unwrap();
    assert!(message.starts_with("line 3: user.username: "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_of_mongodb_keep_their_ids_as_an_attribute_that_tokens_carry() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let line = |name: &str| {
        let id = "65a1b2c3d4e5f60718293a4b";
        format!("{{\"_id\":{{\"$oid\":\"{id}\"}},\"username\":\"{name}\",\"password_hash\":\"{BCRYPT} \"}}\r\n")
    };
    let with_date = line("ben").replace(
        "\"username\"",
        "\"createdAt\":{\"$date\":\"2020-01-01T00:00:00Z\"},\"username\"",
    );
    let file = format!("\u{feff}{}{with_date}", line("ada"));
    // The name that people give `mongoexport --out`.
    let path = deployment.storage.folder().join("users.json");
    std::fs::write(&path, file).unwrap();
    let done = deployment
        .storage
        .run(&["user", "import", path.to_str().unwrap()])
        .finish();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let said: Vec<&str> = done.stdout.lines().collect();
    assert!(
        said[0].starts_with("line 2: createdAt: not a field of an import"),
        "{said:?}"
    );
    assert_eq!(said[1], "1 imported, 1 rejected");
    assert!(done.stderr.contains("changed the embedded store"), "{done:?}");

    let server = deployment.serve();
    let caller = Caller::of(&server);
    let tokens = caller.login("ada").await;
    let answer = caller.validate(&tokens.access_token).await.unwrap();
    let extra = answer.claims.unwrap().extra.unwrap();
    let id = extra.fields["legacy_id"].kind.clone();
    assert_eq!(
        id,
        Some(prost_types::value::Kind::StringValue("65a1b2c3d4e5f60718293a4b".into()))
    );
}

#[tokio::test]
async fn a_file_that_is_wrong_as_a_whole_changes_nothing_and_says_why() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    for (content, cause) in [
        ("[{\"username\":\"ada\"}]", "--jsonArray"),
        ("\u{feff}id,username\n1,ada\n", "\"id\""),
        ("username;email\nada;a@b.c\n", "commas"),
        ("username,username\nada,ada\n", "twice"),
    ] {
        let done = deployment.storage.run(&["user", "import", "-"]).input(content).finish();
        assert_eq!(done.code(), Some(64), "{done:?}");
        assert!(done.stderr.contains(cause), "{cause}: {done:?}");
    }
    let users = deployment.storage.run(&["user", "list"]).json();
    assert!(users["users"].as_array().is_none_or(Vec::is_empty), "{users}");
}
