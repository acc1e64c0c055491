//! Every subcommand of the compiled `countersign` that ends by itself.

use std::process::{Command, ExitStatus};

use serde_json::Value;

use super::guard::{self, Ending};
use super::poll;
use super::serve::PATIENCE;

/// A subcommand about to be run.
#[derive(Debug)]
pub struct Cli {
    command: Command,
    input: Vec<u8>,
}

impl Cli {
    /// Of this command, with nothing to read.
    pub(super) fn new(command: Command) -> Self {
        Self {
            command,
            input: Vec::new(),
        }
    }

    /// What it reads from its standard input: secrets and tokens, by the line.
    #[must_use]
    pub fn input(mut self, text: impl AsRef<[u8]>) -> Self {
        self.input = text.as_ref().to_vec();
        self
    }

    /// With this in its environment: `COUNTERSIGN_TOKEN`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end.
    pub fn finish(mut self) -> Finished {
        let own = guard::scratch("run");
        std::fs::write(own.join("in"), &self.input).unwrap();
        let create = |name: &str| std::fs::File::create(own.join(name)).unwrap();
        let mut child = self
            .command
            .stdin(std::fs::File::open(own.join("in")).unwrap())
            .stdout(create("out"))
            .stderr(create("err"))
            .spawn()
            .expect("countersign starts");
        guard::watch(child.id(), Ending::Kill);
        let status = poll(PATIENCE, || child.try_wait().unwrap());
        if status.is_none() {
            let _ = (child.kill(), child.wait());
        }
        guard::forget(&[child.id()]);
        let read = |name: &str| String::from_utf8_lossy(&std::fs::read(own.join(name)).unwrap()).into_owned();
        let (stdout, stderr) = (read("out"), read("err"));
        guard::discard(&own);
        let status = status.unwrap_or_else(|| panic!("not ended after {PATIENCE:?}:\n{stdout}\n{stderr}"));
        Finished { status, stdout, stderr }
    }

    /// Runs it to its end, which must be a good one; what it printed.
    pub fn succeed(self) -> String {
        let done = self.finish();
        assert!(
            done.status.success(),
            "{}\n{}\n{}",
            done.status,
            done.stdout,
            done.stderr
        );
        done.stdout
    }

    /// Runs it with `--output json` to its good end.
    pub fn json(mut self) -> Value {
        self.command.args(["--output", "json"]);
        let printed = self.succeed();
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("not JSON ({e}): {printed}"))
    }
}

/// A subcommand that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Finished {
    /// Its exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}
