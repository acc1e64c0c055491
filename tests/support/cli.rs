//! The subcommands of the compiled `countersign` that end by themselves.

use std::process::{Command, ExitStatus};

use serde_json::Value;

use super::guard::{self, Ending};
use super::poll;
use super::serve::TIMEOUT;

/// A subcommand that is about to run.
#[derive(Debug)]
pub struct Cli {
    command: Command,
    input: Vec<u8>,
}

impl Cli {
    /// Wraps this command, with an empty standard input.
    pub fn of(command: Command) -> Self {
        Self {
            command,
            input: Vec::new(),
        }
    }

    /// Sets its standard input: secrets and tokens, one per line.
    #[must_use]
    pub fn input(mut self, text: impl AsRef<[u8]>) -> Self {
        self.input = text.as_ref().to_vec();
        self
    }

    /// Sets a variable in its environment, such as `COUNTERSIGN_TOKEN`.
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
        let status = poll(TIMEOUT, || child.try_wait().unwrap());
        if status.is_none() {
            let _ = (child.kill(), child.wait());
        }
        guard::forget(&[child.id()]);
        let read = |name: &str| String::from_utf8_lossy(&std::fs::read(own.join(name)).unwrap()).into_owned();
        let (stdout, stderr) = (read("out"), read("err"));
        guard::discard(&own);
        let status = status.unwrap_or_else(|| panic!("not ended after {TIMEOUT:?}:\n{stdout}\n{stderr}"));
        Finished { status, stdout, stderr }
    }

    /// Runs it to its end, asserts success, and returns its standard output.
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

    /// Runs it with `--output json`, asserts success, and returns the parsed output.
    pub fn json(mut self) -> Value {
        self.command.args(["--output", "json"]);
        let printed = self.succeed();
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("not JSON ({e}): {printed}"))
    }
}

/// A subcommand that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// The exit code.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}
