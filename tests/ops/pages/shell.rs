//! A bash that keeps its variables and aliases from one command to the next, as the terminal of a reader does.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::commands::root;
use super::container::PATIENCE;
use crate::support::guard::{self, Ending};
use crate::support::process::{find, send};
use crate::support::{poll, postgres};

/// Longer than any command takes on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Programs that a test replaces by a script of `stand-ins`: they would build, or need a daemon, a cluster or systemd.
const STAND_INS: &[&str] = &[
    "cargo",
    "countersign",
    "docker",
    "helm",
    "kubectl",
    "systemctl",
    "systemd-run",
];

pub(crate) struct Shell {
    bash: Child,
    script: ChildStdin,
    /// The folder in which the commands run.
    folder: PathBuf,
    /// The folder of the files between this test and the stand-ins.
    own: PathBuf,
    commands: u32,
    background: Vec<u32>,
}

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    /// Standard output and standard error, as a terminal shows them.
    pub(crate) output: String,
}

impl Shell {
    /// Starts it in a new folder that has the files of the source tree which the commands name.
    pub(crate) fn start() -> Self {
        let (folder, own) = (guard::scratch("pages"), guard::scratch("shell"));
        let programs = own.join("bin");
        std::fs::create_dir(&programs).unwrap();
        let link = |target: PathBuf, name: &str| std::os::unix::fs::symlink(target, programs.join(name)).unwrap();
        for name in STAND_INS {
            link(root().join("tests/ops/pages/stand-ins").join(name), name);
        }
        link(tool("grpcurl"), "grpcurl");
        // Copied, because some commands write there.
        copy(&root().join("deploy"), &folder.join("deploy"));
        let system = std::env::var_os("PATH").unwrap_or_default();
        let path = [programs, postgres::programs()]
            .into_iter()
            .chain(std::env::split_paths(&system));
        let mut bash = Command::new("bash")
            .current_dir(&folder)
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap())
            .env("HOME", &folder)
            .env("LC_ALL", "C.UTF-8")
            .env("STAND_IN_BINARY", env!("CARGO_BIN_EXE_countersign"))
            .env("STAND_IN_FOLDER", &own)
            .envs(PATIENCE)
            .args(["--norc", "--noprofile"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bash starts");
        guard::watch(bash.id(), Ending::Kill);
        let mut script = bash.stdin.take().expect("its input is a pipe");
        script
            .write_all(b"set -o pipefail; shopt -s expand_aliases\n")
            .expect("bash reads");
        Self {
            bash,
            script,
            folder,
            own,
            commands: 0,
            background: Vec::new(),
        }
    }

    /// The folder in which the commands run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file that a stand-in reads or writes.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.own.join(name)
    }

    /// The script that runs a command in a container.
    pub(crate) fn container(&self) -> PathBuf {
        self.own("container")
    }

    /// Runs a command to its end, with this standard input.
    pub(crate) fn run(&mut self, text: &str, input: &str) -> Ended {
        let files = self.write(text, input, "");
        let status = poll(TIMEOUT, || std::fs::read_to_string(files.with_extension("status")).ok());
        let output = std::fs::read(files.with_extension("out")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output).into_owned();
        let status = status.unwrap_or_else(|| panic!("{text}: not ended after {TIMEOUT:?}:\n{output}"));
        Ended {
            status: status.trim().parse().expect("an exit status"),
            output,
        }
    }

    /// Starts a command that goes on until the test ends. Returns the file with its output.
    pub(crate) fn start_server(&mut self, text: &str) -> PathBuf {
        let files = self.write(text, "", "&");
        let pid = files.with_extension("status");
        let pid = poll(TIMEOUT, || std::fs::read_to_string(&pid).ok()).expect("bash starts it");
        let pid = pid.trim().parse().expect("a process id");
        guard::watch(pid, Ending::Kill);
        self.background.push(pid);
        files.with_extension("out")
    }

    /// Stops the commands that go on, and waits for their end.
    pub(crate) fn stop_servers(&mut self) {
        for &pid in &self.background {
            send(pid, Signal::SIGTERM);
        }
        guard::forget(&self.background);
        self.background.clear();
        self.run("wait", "");
    }

    /// Gives bash the command. Its status, or the process id of a command in the background, will be in a file.
    fn write(&mut self, text: &str, input: &str, background: &str) -> PathBuf {
        self.commands += 1;
        let files = self.own.join(format!("command{}", self.commands));
        std::fs::write(files.with_extension("in"), input).unwrap();
        let name = files.display();
        let result = if background.is_empty() { "$?" } else { "$!" };
        // A single command in the background is a child of bash itself, so `$!` is its own process.
        let (open, close) = if background.is_empty() { ("{ ", "\n}") } else { ("", "") };
        let script = format!(
            "{open}{text}{close} <{name}.in >{name}.out 2>&1 {background}\n\
             echo {result} >{name}.new; mv {name}.new {name}.status\n"
        );
        self.script.write_all(script.as_bytes()).expect("bash reads");
        self.script.flush().expect("bash reads");
        files
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for &pid in &self.background {
            send(pid, Signal::SIGKILL);
        }
        let _ = (self.bash.kill(), self.bash.wait());
        guard::forget(&self.background);
        guard::forget(&[self.bash.id()]);
    }
}

/// A program that `tests/run` installs.
pub(crate) fn tool(name: &str) -> PathBuf {
    let installed = root().join("target/tools/bin").join(name);
    if installed.is_file() {
        return installed;
    }
    find(name).unwrap_or_else(|| panic!("{name} is not installed: tests/run does that"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            // Secrets of a developer's own deployment stay where they are.
            if entry.file_name() != "secrets" {
                copy(&entry.path(), &target);
            }
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
