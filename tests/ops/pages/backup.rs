//! Backup and restore, on Postgres and embedded.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::compose::{Stores, container};
use super::container::read;
use super::shell::Shell;
use super::{PASSWORD, assert_audited, runnable, succeed};
use crate::support::poll;

const TIMEOUT: Duration = Duration::from_mins(1);

fn run(shell: &mut Shell, text: &str) -> String {
    let ended = shell.run(text, &format!("{PASSWORD}\n"));
    assert_eq!(ended.status, 0, "{text}: {ended:?}");
    ended.output
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_and_restored_as_the_page_says() {
    let mut shell = Shell::start();
    let folder = shell.folder().to_owned();
    run(&mut shell, "deploy/make-secrets");
    let secrets = folder.join("deploy/secrets");
    let stores = Stores::start(&secrets).await;
    let service = container(&folder);
    service.install(&shell.container(), None);
    let alias = "docker compose --file deploy/compose.yaml run --rm --no-deps countersign \
                 --config /etc/countersign/countersign.toml";
    run(&mut shell, &format!("alias countersign='{alias}'"));
    let mut replica = Some(service.serve(&["serve", "--config", "/etc/countersign/countersign.toml"]));

    let url = std::fs::read_to_string(secrets.join("database_url")).unwrap();
    let (user, rest) = url.trim().split_once("://").unwrap().1.split_once(':').unwrap();
    let (password, place) = rest.split_once('@').unwrap();
    std::fs::write(folder.join("pgpass"), format!("*:*:*:{user}:{password}\n")).unwrap();
    run(&mut shell, "chmod 0600 pgpass; export PGPASSFILE=$PWD/pgpass");
    run(
        &mut shell,
        &format!("DATABASE_URL=postgres://{user}@{place} ADMIN_URL={}", stores.admin),
    );
    run(&mut shell, "countersign user add ada");

    let mut embedded = false;
    for command in runnable("deploy/BACKUP.md") {
        match command.program() {
            "psql" => {
                // After the backup, and before the accident.
                run(&mut shell, "countersign user disable ada");
                let mut stopped = replica.take().expect("it runs until the restoration");
                stopped.process.signal(Signal::SIGTERM);
                assert!(stopped.process.wait(TIMEOUT).success());
            }
            "sqlite3" => {
                let ada = run(&mut shell, "countersign user show ada --output json");
                assert!(!ada.contains("\"disabled\": true"), "as in the backup: {ada}");
                assert_audited(&mut shell, &["everything.revoked", "key.activated"]);
                // From here on, the page is about an embedded deployment.
                run(&mut shell, "unalias countersign");
                shell.start_server("countersign serve");
                let ready = shell.own("ready.json");
                assert!(poll(TIMEOUT, || read(&ready)).is_some(), "it does not start");
                run(
                    &mut shell,
                    "countersign user add eve && cp countersign-data/master.key .",
                );
                embedded = true;
            }
            "mv" => shell.stop_servers(),
            _ => {}
        }
        let ended = succeed(&mut shell, &command, &[]);
        if command.text.contains("doctor") {
            assert!(
                ended
                    .output
                    .lines()
                    .any(|line| line.starts_with("ok") && line.contains("key ring")),
                "{ended:?}"
            );
        }
    }
    assert!(embedded && replica.is_none(), "the page restores both kinds");
    run(&mut shell, "countersign user show eve");
    assert_audited(&mut shell, &["user.created", "everything.revoked"]);
    let wrong = "COUNTERSIGN_KEYS__MASTER_KEY=d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmctd3I= countersign doctor";
    assert_ne!(
        shell.run(wrong, "").status,
        0,
        "another master key does not open the key ring"
    );
}
