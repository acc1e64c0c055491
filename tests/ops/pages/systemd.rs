//! The systemd unit and its sockets: the comments in them, and the runbook, embedded and on Postgres and Redis.

use std::path::{Path, PathBuf};

use super::container::{Container, LISTEN};
use super::runbook::Duty;
use super::shell::Shell;
use super::{runnable, succeed};
use crate::support::{Database, KeySpace};

const UNIT: &str = "deploy/systemd/countersign.service";

/// A machine: the folders that the commands of the unit write to.
struct Machine {
    shell: Shell,
    root: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let shell = Shell::start();
        let root = shell.own("root");
        for folder in ["usr/local/bin", "etc/systemd/system", "etc", "var/lib"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        let built = shell.folder().join("target/production");
        std::fs::create_dir_all(&built).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_countersign"), built.join("countersign")).unwrap();
        Self { shell, root }
    }

    /// Paths of the machine, and where they are here.
    fn paths(&self) -> Vec<(&'static str, PathBuf)> {
        let places = [
            "/usr/local/bin/",
            "/etc/systemd/system/",
            "/etc/countersign/",
            "/var/lib/countersign",
        ];
        places.map(|place| (place, self.root.join(&place[1..]))).into()
    }

    fn replaced(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.display().to_string();
        self.paths()
            .into_iter()
            .map(|(place, here)| (place, text(here)))
            .collect()
    }

    /// Runs the commands of the unit; of the lines for the configuration file, the one that names `configuration`.
    fn install(&mut self, configuration: &str) {
        let replaced = self.replaced();
        let replaced: Vec<(&str, &str)> = replaced.iter().map(|(from, to)| (*from, to.as_str())).collect();
        for command in runnable(UNIT) {
            let other_file = command.text.ends_with("countersign.toml") && !command.text.contains(configuration);
            // Once the service runs.
            if !other_file && command.program() != "systemd-run" {
                succeed(&mut self.shell, &command, &replaced);
            }
        }
        assert_eq!(
            std::fs::read_to_string(self.shell.own("units")).unwrap(),
            "countersign\n"
        );
    }

    fn unit(&self) -> String {
        std::fs::read_to_string(self.root.join("etc/systemd/system/countersign.service")).unwrap()
    }

    /// The service as this unit describes it.
    fn service(&self, unit: &str) -> Container {
        let credentials = self.root.join("run/credentials");
        std::fs::create_dir_all(&credentials).unwrap();
        for line in unit.lines().filter_map(|line| line.strip_prefix("LoadCredential=")) {
            let (name, path) = line.split_once(':').expect("NAME:PATH");
            std::fs::copy(self.root.join(&path[1..]), credentials.join(name)).unwrap();
        }
        let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
        let environment = lines.filter_map(|line| line.split_once('=')).map(|(name, value)| {
            let value = value.replace("%d", credentials.to_str().unwrap());
            (name.to_owned(), value)
        });
        Container {
            environment: environment.collect(),
            paths: self.paths(),
        }
    }

    /// The arguments of the program in this line of the unit.
    fn words(unit: &str, key: &str) -> Vec<String> {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let mut words = line.expect("the unit has the line").split_whitespace();
        assert_eq!(words.next(), Some("/usr/local/bin/countersign"));
        words.map(str::to_owned).collect()
    }
}

fn words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn an_embedded_unit_and_the_runbook_work_as_they_stand() {
    let mut machine = Machine::new();
    machine.install("/dev/null");
    let unit = machine.unit();
    let service = machine.service(&unit);
    service.install(&machine.shell.container(), None);
    let check = Machine::words(&unit, "ExecStartPre");
    let checked = machine
        .shell
        .run(&format!("\"$STAND_IN_FOLDER/container\" {}", check.join(" ")), "");
    assert_eq!(checked.status, 0, "{checked:?}");
    let replica = service.serve(&words(&Machine::words(&unit, "ExecStart")));

    let mut replaced = machine.replaced();
    // The replica listens on a port that no page knows.
    let mode = "--setenv=COUNTERSIGN_STORAGE__MODE=embedded";
    replaced.push((mode, format!("{mode} --setenv={LISTEN}={}", replica.grpc)));
    let replaced: Vec<(&str, &str)> = replaced.iter().map(|(from, to)| (*from, to.as_str())).collect();
    for command in runnable(UNIT).filter(|command| command.program() == "systemd-run") {
        let ended = succeed(&mut machine.shell, &command, &replaced);
        assert!(ended.output.contains("admin"), "{ended:?}");
        let again = command.text.replace("user add ada --admin", "user delete ada");
        let deleted = machine.shell.run(&super::replace(&again, &replaced), "");
        assert_eq!(deleted.status, 0, "{deleted:?}");
    }
    Duty {
        shell: &mut machine.shell,
        alias: "systemd-run",
        replaced,
        database: None,
        whole: true,
        roll_out: None,
    }
    .walk();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clustered_unit_and_the_runbook_work_as_they_stand() {
    let (database, keys) = (Database::fresh().await, KeySpace::fresh());
    let mut machine = Machine::new();
    machine.install("deploy/countersign.toml");
    // What an administrator brings: the secrets, and a certificate.
    let made = machine.shell.run("deploy/make-secrets", "");
    assert_eq!(made.status, 0, "{made:?}");
    let secrets = machine.shell.folder().join("deploy/secrets");
    let credentials = machine.root.join("etc/countersign/credentials");
    std::fs::create_dir_all(&credentials).unwrap();
    std::fs::write(credentials.join("database_url"), format!("{}\n", database.url())).unwrap();
    std::fs::write(credentials.join("redis_url"), format!("{}\n", keys.url())).unwrap();
    std::fs::copy(secrets.join("master_key"), credentials.join("master_key")).unwrap();
    edit(&machine.root.join("etc/countersign/countersign.toml"), |text| {
        text.replace("/run/secrets", secrets.to_str().unwrap())
    });

    // What the unit says about Postgres and Redis: remove two lines, uncomment the next six.
    let unit = machine.unit();
    let (before, after) = unit
        .split_once("\n# Embedded. On Postgres and Redis remove these two lines, uncomment the next six")
        .expect("the unit says how");
    let (_, after) = after.split_once('\n').unwrap();
    let mut lines: Vec<&str> = after.lines().collect();
    assert!(
        lines
            .drain(..2)
            .all(|line| line.starts_with("Environment=COUNTERSIGN_STORAGE__"))
    );
    for line in &mut lines[..6] {
        *line = line.strip_prefix("# ").expect("a comment");
    }
    let unit = format!("{before}\n{}\n", lines.join("\n"));
    let mut service = machine.service(&unit);
    service
        .environment
        .push(("COUNTERSIGN_STORAGE__REDIS_PREFIX".to_owned(), keys.prefix().to_owned()));
    service.install(&machine.shell.container(), None);
    let check = Machine::words(&unit, "ExecStartPre");
    let checked = machine
        .shell
        .run(&format!("\"$STAND_IN_FOLDER/container\" {}", check.join(" ")), "");
    assert_eq!(checked.status, 0, "{checked:?}");
    let replica = service.serve(&words(&Machine::words(&unit, "ExecStart")));

    let mut replaced = machine.replaced();
    // This Redis is shared with other tests, and the replica listens on a port that no page knows.
    let prefix = format!(
        "COUNTERSIGN_STORAGE__REDIS_PREFIX={} {LISTEN}={}",
        keys.prefix(),
        replica.grpc
    );
    replaced.push(("alias countersign='env ", format!("alias countersign='env {prefix} ")));
    let replaced: Vec<(&str, &str)> = replaced.iter().map(|(from, to)| (*from, to.as_str())).collect();
    Duty {
        shell: &mut machine.shell,
        alias: "env ",
        replaced,
        database: Some(database.url()),
        whole: false,
        roll_out: None,
    }
    .walk();
}

#[test]
fn the_commands_of_the_sockets_work_as_they_stand() {
    let mut machine = Machine::new();
    let replaced = machine.replaced();
    let replaced: Vec<(&str, &str)> = replaced.iter().map(|(from, to)| (*from, to.as_str())).collect();
    for command in runnable("deploy/systemd/countersign.socket") {
        succeed(&mut machine.shell, &command, &replaced);
    }
    let installed = machine.root.join("etc/systemd/system/countersign.socket");
    let installed = std::fs::read_to_string(installed).unwrap();
    assert_eq!(installed.matches("\nListenStream=").count(), 2);
    assert_eq!(
        std::fs::read_to_string(machine.shell.own("units")).unwrap(),
        "countersign.socket\n"
    );
}

fn edit(file: &Path, change: impl Fn(String) -> String) {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::write(file, change(text)).unwrap();
}
