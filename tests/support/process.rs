//! One server process, ended when dropped.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::guard::{self, Ending};
use super::wait::poll;

/// A process that this test started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    ending: Ending,
    log: PathBuf,
}

impl Process {
    /// Starts it without input; its output is appended to the file `log`.
    pub fn spawn(command: &mut Command, log: &Path, ending: Ending) -> Self {
        let said = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("its log can be written");
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            // Ctrl-C is for the test runner only.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{} does not start: {e}", command.get_program().display()));
        guard::watch(child.id(), ending);
        Self {
            child,
            status: None,
            ending,
            log: log.to_owned(),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("our own child can be waited for");
            if self.status.is_some() {
                guard::forget(&[self.pid()]);
            }
        }
        self.status
    }

    /// Sends it a signal, if it still runs.
    pub fn signal(&mut self, signal: Signal) {
        if self.exited().is_none() {
            send(self.pid(), signal);
        }
    }

    /// Waits for its exit status.
    ///
    /// # Panics
    ///
    /// If it has not ended within the time; the message has its output.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        poll(within, || self.exited()).unwrap_or_else(|| {
            panic!(
                "process {} has not ended within {within:?}; its output:\n{}",
                self.pid(),
                self.log()
            )
        })
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait(Duration::from_secs(10));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ending == Ending::Quit {
            self.signal(Signal::SIGCONT);
            self.signal(Signal::SIGQUIT);
            poll(Duration::from_secs(5), || self.exited());
        }
        self.signal(Signal::SIGKILL);
        poll(Duration::from_secs(5), || self.exited());
    }
}

/// Sends a signal to a process of ours or to one that it started; it is no error if that is gone.
pub fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal);
}

/// The path of a program in `PATH`. `COUNTERSIGN_TEST_REDIS_SERVER` names another build of `redis-server`.
pub fn find(program: &str) -> Option<PathBuf> {
    if program == "redis-server"
        && let Some(other) = std::env::var_os("COUNTERSIGN_TEST_REDIS_SERVER")
    {
        return Some(other.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
