//! Commands without the configuration that names their store: they create nothing, and name the place where they looked.

use std::path::Path;

use crate::support::{Database, Deployment, DeploymentKind, KeySpace, PASSWORD, Storage};

/// Every command on the store.
const COMMANDS: [&[&str]; 25] = [
    &["user", "add", "ada", "--admin"],
    &["user", "update", "ada", "--role", "staff"],
    &["user", "list"],
    &["user", "show", "ada"],
    &["user", "passwd", "ada"],
    &["user", "disable", "ada"],
    &["user", "enable", "ada"],
    &["user", "delete", "ada"],
    &["user", "import", "users.jsonl"],
    &["client", "add", "web"],
    &["client", "list"],
    &["client", "show", "web"],
    &["client", "update", "web", "--scope", "read"],
    &["client", "rotate-secret", "web"],
    &["client", "delete", "web"],
    &["key", "list"],
    &["key", "rotate"],
    &["key", "revoke", "kid"],
    &["key", "reseal"],
    &["session", "list", "ada"],
    &["session", "revoke", "6f0e2c39-0000-4000-8000-000000000000"],
    &["session", "revoke-all", "--all"],
    &["session", "revoke-all", "--user", "ada"],
    &["audit", "query"],
    &["audit", "tail"],
];

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = names
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Runs every command in the folder of `storage`; each is refused with `code` and a message that contains `names`.
fn all_are_refused(storage: &Storage, code: i32, names: &str) {
    std::fs::write(storage.folder().join("users.jsonl"), "{\"username\":\"ada\"}\n").unwrap();
    let before = files(storage.folder());
    for words in COMMANDS {
        let done = storage.run(words).input(format!("{PASSWORD}\n")).finish();
        assert_eq!(done.code(), Some(code), "{words:?}: {done:?}");
        assert!(
            done.stdout.is_empty() && done.stderr.contains(names),
            "{words:?}: {done:?}"
        );
    }
    assert_eq!(files(storage.folder()), before, "nothing was created");
}

#[test]
fn a_command_in_an_empty_folder_creates_no_store() {
    let storage = Storage::embedded();
    let place = storage.data();
    all_are_refused(&storage, 69, place.to_str().unwrap());

    storage.run(&["migrate"]).succeed();
    storage.run(&["user", "add", "ada"]).input(PASSWORD).succeed();
}

#[test]
fn a_command_with_the_production_file_and_without_its_environment_is_refused() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/countersign.toml");
    let storage = Storage::embedded();
    std::fs::copy(file, storage.folder().join("countersign.toml")).unwrap();
    std::fs::write(storage.folder().join("users.jsonl"), "{\"username\":\"ada\"}\n").unwrap();
    let before = files(storage.folder());
    for words in COMMANDS
        .into_iter()
        .chain([&["serve"][..], &["migrate"], &["doctor"], &["config", "check"]])
    {
        let words = [words, &["--config", "countersign.toml"]].concat();
        let done = storage.run(&words).input(format!("{PASSWORD}\n")).finish();
        assert_eq!(done.code(), Some(64), "{words:?}: {done:?}");
        assert!(
            done.stderr.contains("storage.mode") && done.stderr.contains("storage.database_url"),
            "{words:?}: {done:?}"
        );
    }
    assert_eq!(files(storage.folder()), before, "nothing was created");

    let embedded = storage
        .set("storage.mode", "embedded")
        .set("storage.redis_url", "redis://127.0.0.1:1");
    let done = embedded.run(&["config", "check"]).finish();
    assert_eq!(done.code(), Some(64), "{done:?}");
}

#[tokio::test]
async fn a_command_on_an_empty_database_creates_no_schema() {
    let (database, keys) = (Database::fresh().await, KeySpace::fresh());
    let storage = Storage::shared(&database, &keys);
    all_are_refused(&storage, 69, "does not exist");
    let tables = database
        .rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        .await;
    assert!(tables.is_empty(), "{tables:?}");
}

#[tokio::test]
async fn a_changing_command_names_its_store_and_a_reading_one_does_not() {
    for kind in [DeploymentKind::Embedded, DeploymentKind::Clustered] {
        let deployment = Deployment::fresh(kind).await.set(
            "storage.mode",
            match kind {
                DeploymentKind::Embedded => "embedded",
                DeploymentKind::Clustered | DeploymentKind::RedisCluster => "clustered",
            },
        );
        let storage = &deployment.storage;
        let place = match &deployment.database {
            Some(database) => database.url().rsplit_once('/').unwrap().1.to_owned(),
            None => storage.data().display().to_string(),
        };
        let named = |words: &[&str]| {
            let done = storage.run(words).input(format!("{PASSWORD}\n")).finish();
            assert_eq!(done.code(), Some(0), "{words:?}: {done:?}");
            done.stderr.contains("changed the") && done.stderr.contains(&place)
        };
        for words in [
            &["migrate"][..],
            &["user", "add", "ada", "--output", "json"],
            &["user", "update", "ada", "--role", "staff"],
            &["user", "passwd", "ada"],
            &["client", "add", "web", "--grant", "password", "--scope", "read"],
            &["client", "rotate-secret", "web"],
            &["key", "rotate", "--force"],
            &["key", "reseal"],
            &["session", "revoke-all", "--user", "ada"],
            &["session", "revoke-all", "--client", "web"],
            &["session", "revoke-all", "--all"],
            &["client", "delete", "web"],
            &["user", "delete", "ada"],
        ] {
            assert!(named(words), "{words:?} names {place}");
        }
        for words in [
            &["user", "list"][..],
            &["client", "list"],
            &["key", "list"],
            &["audit", "query"],
        ] {
            assert!(!named(words), "{words:?} changes nothing");
        }
        let checked = storage.run(&["config", "check"]).succeed();
        assert!(checked.contains(&place), "{checked}");
        let doctor = storage.run(&["doctor"]).finish();
        assert!(doctor.stdout.contains(&place), "{doctor:?}");
    }
}

#[tokio::test]
async fn revoke_all_needs_a_target_that_exists() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let storage = &deployment.storage;
    deployment.add_user("ada", &[]);
    for (words, code) in [
        (&["session", "revoke-all"][..], 64),
        // An unset variable of the shell, quoted and not.
        (&["session", "revoke-all", "--user"], 64),
        (&["session", "revoke-all", "--user", ""], 1),
        (&["session", "revoke-all", "--user", "ada", "--all"], 64),
        (&["session", "revoke-all", "--user", "eve"], 1),
        (&["session", "revoke-all", "--client", "unknown"], 1),
    ] {
        let done = storage.run(words).finish();
        assert_eq!(done.code(), Some(code), "{words:?}: {done:?}");
    }
    let trail = storage.run(&["audit", "query", "--type", "everything.*"]).json();
    assert_eq!(trail["events"], serde_json::json!([]));
}

/// `script` gives the command a terminal.
#[tokio::test]
async fn at_a_terminal_a_command_that_cannot_be_undone_asks() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let storage = &deployment.storage;
    for name in ["ada", "bob"] {
        deployment.add_user(name, &[]);
    }
    storage.run(&["client", "add", "web", "--grant", "password"]).succeed();
    let keys = storage.run(&["key", "list"]).json();
    let key = keys["keys"][0]["keyId"].as_str().unwrap().to_owned();
    let at_terminal = |words: &str, answer: &str| {
        let command = storage.command();
        let line = format!("{} {words}", command.get_program().to_str().unwrap());
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.current_dir(storage.folder());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        crate::support::Cli::of(script).input(format!("{answer}\n")).finish()
    };
    for words in [
        "session revoke-all --all".to_owned(),
        "user delete ada".to_owned(),
        "client delete web".to_owned(),
        format!("key revoke {key}"),
    ] {
        let refused = at_terminal(&words, "no");
        assert_eq!(refused.code(), Some(1), "{words}: {refused:?}");
        assert!(refused.stdout.contains("nothing was changed"), "{words}: {refused:?}");
        let confirmed = at_terminal(&words, "yes");
        assert_eq!(confirmed.code(), Some(0), "{words}: {confirmed:?}");
    }
    let unasked = at_terminal("user delete bob --yes", "");
    assert_eq!(unasked.code(), Some(0), "{unasked:?}");
    let trail = storage.run(&["audit", "query", "--type", "everything.*"]).json();
    assert_eq!(trail["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn single_scopes_of_a_client_are_added_and_removed() {
    let deployment = Deployment::fresh(DeploymentKind::Embedded).await;
    let storage = &deployment.storage;
    let add = [
        "client", "add", "web", "--grant", "password", "--scope", "read", "--scope", "write",
    ];
    storage.run(&add).succeed();
    let scopes = |flags: &[&str]| {
        let updated = storage.run(&[&["client", "update", "web"], flags].concat()).json();
        updated["client"]["scopes"].clone()
    };
    assert_eq!(
        scopes(&["--add-scope", "admin", "--remove-scope", "read", "--add-scope", "write"]),
        serde_json::json!(["write", "admin"])
    );
    let replaced = storage.run(&["client", "update", "web", "--scope", "read"]).finish();
    assert!(
        replaced.code() == Some(0) && replaced.stderr.contains("replaced"),
        "{replaced:?}"
    );
    for (flags, code) in [
        (&["--remove-scope", "write"][..], 1),
        (&["--scope", "a", "--add-scope", "b"], 64),
    ] {
        let refused = storage.run(&[&["client", "update", "web"], flags].concat()).finish();
        assert_eq!(refused.code(), Some(code), "{flags:?}: {refused:?}");
    }
}
