//! The runbook, by the line that it shows for a kind of deployment.

use std::collections::BTreeSet;
use std::time::Duration;

use super::commands::Command;
use super::shell::Shell;
use super::{assert_audited, runnable, succeed};
use crate::support::poll;

/// Longer than the service takes to make a standby key.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The deployment on which an engineer reads the runbook.
pub(crate) struct Duty<'a> {
    pub(crate) shell: &'a mut Shell,
    /// How the line of this deployment begins.
    pub(crate) alias: &'a str,
    /// Paths and names of the page, and those of this deployment.
    pub(crate) replaced: Vec<(&'a str, &'a str)>,
    /// The URL of the database, if there is one.
    pub(crate) database: Option<&'a str>,
    /// Whether every command is run. Otherwise those that show that the line of the deployment is right.
    pub(crate) whole: bool,
    /// Rolls out all replicas with the master key in the present file. Without it, the file is not changed.
    pub(crate) roll_out: Option<&'a mut dyn FnMut()>,
}

impl Duty<'_> {
    /// Runs the commands of the runbook and of the page about security, each once.
    pub(crate) fn walk(mut self) {
        let mut seen = BTreeSet::new();
        for command in runnable("deploy/RUNBOOK.md").chain(runnable("SECURITY.md")) {
            let shows = ["alias", "kubectl", "SELECT"].contains(&command.program())
                || ["doctor", "health", "--all"]
                    .iter()
                    .any(|word| command.text.contains(word));
            // Equal commands are steps of a change of the master key.
            let is_step = command.program() == "chmod" || command.text.contains("key reseal");
            let is_new = is_step || !seen.contains(&command.text);
            if is_new && (self.whole || shows) && self.run(&command) {
                seen.insert(command.text);
            }
        }
        assert_audited(self.shell, &["everything.revoked"]);
        if !self.whole {
            return;
        }
        assert!(seen.len() > 18, "only {seen:?}");
        let types = [
            "user.sessions_revoked",
            "user.disabled",
            "client.sessions_revoked",
            "client.updated",
            "key.activated",
            "key.revoked",
        ];
        assert_audited(self.shell, &types);
    }

    /// Whether the command is for this deployment, and was run.
    fn run(&mut self, command: &Command) -> bool {
        match command.program() {
            "alias" if command.text.starts_with(&format!("alias countersign='{}", self.alias)) => {
                let replaced = self.replaced.clone();
                succeed(self.shell, command, &replaced);
                for made in ["user add ada", "client add web --grant client_secret"] {
                    let ended = self
                        .shell
                        .run(&format!("countersign {made}"), "a long enough password\n");
                    assert_eq!(ended.status, 0, "{made}: {ended:?}");
                }
            }
            "alias" => return false,
            "kubectl" if self.alias != "kubectl" => return false,
            "SELECT" => {
                let Some(url) = self.database else { return false };
                let asked = format!("psql '{url}' --tuples-only --command \"{}\"", command.text);
                let ended = self.shell.run(&asked, "");
                let has_rows = ended.status == 0 && !ended.output.trim().is_empty();
                assert!(has_rows, "{}: {ended:?}", command.place());
            }
            "printf" | "cut" | "chmod" => {
                let Some(roll_out) = &mut self.roll_out else {
                    return false;
                };
                let there = Command {
                    text: format!(
                        "pushd deploy/secrets; {}; result=$?; popd; (exit $result)",
                        command.text
                    ),
                    ..command.clone()
                };
                succeed(self.shell, &there, &[]);
                if command.program() == "chmod" {
                    roll_out();
                }
            }
            // A new standby key is needed each time, and resealing waits until replicas without the key are gone.
            _ if ["KID", "key rotate", "key reseal"]
                .iter()
                .any(|part| command.text.contains(part)) =>
            {
                let mut last = None;
                let done = poll(TIMEOUT, || {
                    let text = if command.text.contains("KID") {
                        command.text.replace("KID", &self.active_key()?)
                    } else {
                        command.text.clone()
                    };
                    let ended = self.shell.run(&text, "");
                    let done = (ended.status == 0).then_some(());
                    last = Some(ended);
                    done
                });
                assert!(done.is_some(), "{}: {last:?}", command.place());
            }
            _ => {
                let replaced = [&self.replaced[..], &[(" NAME", " ada"), (" ID", " web")]].concat();
                succeed(self.shell, command, &replaced);
            }
        }
        true
    }

    fn active_key(&mut self) -> Option<String> {
        let listed = self.shell.run("countersign key list", "");
        let line = listed.output.lines().find(|line| line.contains("ACTIVE"))?.to_owned();
        line.split_whitespace().next().map(str::to_owned)
    }
}
