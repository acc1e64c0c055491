//! `keys.master_key_command`: a program of the operator that prints the master key, for instance from a key service.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::secret::SecretText;

/// How long the program may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes that it may print; a hundred keys have that length.
const MAX_OUTPUT: u64 = 4 * 1024;

/// The pause between two looks whether the program has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Runs the program and returns the text that it printed. Its standard error is that of this process, so that the operator sees why
/// it failed. Blocks until it has ended.
///
/// # Errors
/// One line that names the program and the problem, without its arguments and its output: both may be secret.
pub(super) fn run(command: &[String]) -> Result<SecretText, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("it is empty".to_owned());
    };
    let cannot = |problem: &dyn std::fmt::Display| format!("{program} {problem}");
    let mut command = Command::new(program);
    // The program needs the settings of its key service, but not the passwords of the stores.
    for (name, _) in std::env::vars_os() {
        if name
            .as_encoded_bytes()
            .starts_with(crate::config::ENVIRONMENT_PREFIX.as_bytes())
        {
            command.env_remove(name);
        }
    }
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // A group of its own, so that the processes that it starts end with it.
        .process_group(0)
        .spawn()
        .map_err(|error| cannot(&format!("cannot be run: {error}")))?;
    let ended = output(&mut child);
    if ended.is_err() {
        end(&mut child);
    }
    let text = ended.map_err(|problem| cannot(&problem))?;
    SecretText::from_input(&text).map_err(|problem| cannot(&format!("printed a key that {problem}")))
}

/// The output of the program, once it has ended with success.
fn output(child: &mut Child) -> Result<Zeroizing<Vec<u8>>, String> {
    let deadline = Instant::now() + TIMEOUT;
    let late = || format!("has not ended after {} s", TIMEOUT.as_secs());
    let Some(stdout) = child.stdout.take() else {
        return Err("has no standard output".to_owned());
    };
    let (send, receive) = mpsc::channel();
    // In a thread, because a process that the program started may keep the pipe open.
    std::thread::spawn(move || {
        // Allocate once: a growing vector would leave copies of the secret in freed memory.
        let mut text = Zeroizing::new(Vec::with_capacity(8 * 1024));
        let read = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut text);
        // Nothing receives it after the deadline.
        let _ = send.send(read.map(|_| text));
    });
    let text = match receive.recv_timeout(TIMEOUT) {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return Err(format!("cannot be read: {error}")),
        Err(_) => return Err(late()),
    };
    if text.len() as u64 > MAX_OUTPUT {
        return Err(format!("printed more than {MAX_OUTPUT} bytes"));
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(text),
            Ok(Some(status)) => return Err(format!("failed ({status}); its standard error says why")),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
            Ok(None) => return Err(late()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Ends the program and the processes that it started.
fn end(child: &mut Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // It fails if the program has ended already.
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<String, String> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&command).map(|text| text.expose().to_owned())
    }

    #[test]
    fn the_printed_key_is_returned_and_failures_show_no_output() {
        assert_eq!(shell("printf 'a2V5 \\n'").unwrap(), "a2V5");
        for (script, problem) in [
            ("echo canary; exit 3", "exit status: 3"),
            ("head -c 5000 /dev/zero", "more than 4096 bytes"),
            ("printf '\\377canary'", "not UTF-8"),
            ("kill -9 $$", "signal: 9"),
        ] {
            let error = shell(script).unwrap_err();
            assert!(
                error.contains(problem) && !error.contains("canary"),
                "{script}: {error}"
            );
        }
        let error = run(&["/nonexistent/canary-free".to_owned()]).unwrap_err();
        assert!(error.contains("/nonexistent"), "{error}");
        assert!(run(&[]).is_err());
    }
}
