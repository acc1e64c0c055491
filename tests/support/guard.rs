//! Ends the processes and removes the files that a test runner leaves behind.
//!
//! Servers that all tests of a process share live in statics, which are never dropped, and a runner may be killed. So
//! the runner starts one small shell, and tells it on a pipe which processes it starts. Only the runner holds the
//! pipe, which closes when the runner ends for any reason. The shell then ends the processes and removes the folder
//! with all their files. (`PR_SET_PDEATHSIG` does not work here: it fires when the *thread* that started the server
//! ends, and each test has its own.)

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};

const SCRIPT: &str = r#"
trap '' INT TERM HUP
kill= quit=
without() { for p in $2; do [ "$p" = "$1" ] || printf '%s ' "$p"; done; }
while read -r op pid; do
  case $op in
    kill) kill="$kill $pid" ;;
    quit) quit="$quit $pid" ;;
    done) kill=$(without "$pid" "$kill"); quit=$(without "$pid" "$quit") ;;
  esac
done
for p in $kill; do kill -KILL "$p"; done
for p in $quit; do kill -CONT "$p"; kill -QUIT "$p"; done
for p in $quit; do
  i=0
  while [ $i -lt 30 ] && kill -0 "$p"; do i=$((i + 1)); sleep 0.1; done
  kill -KILL "$p"
done
rm -rf -- "$1"
"#;

/// How to end a process that outlived its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At once, by SIGKILL.
    Kill,
    /// SIGQUIT, on which PostgreSQL ends its backends and frees its shared memory; SIGKILL if that takes 3 s.
    Quit,
}

struct Guard {
    commands: Mutex<ChildStdin>,
    root: PathBuf,
}

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    let root = tempfile::Builder::new()
        .prefix("countersign-test-")
        .tempdir()
        .expect("the temporary folder can be written")
        .keep();
    // A server that runs as another user must be able to reach its own folder below this one.
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o711)).unwrap();
    let commands = Command::new("sh")
        .args(["-c", SCRIPT, "guard"])
        .arg(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C goes to the foreground process group, and the guard has its work to do just then.
        .process_group(0)
        .spawn()
        .expect("sh starts")
        .stdin
        .expect("its input is a pipe");
    Guard {
        commands: Mutex::new(commands),
        root,
    }
});

fn send_command(line: &str) {
    let mut commands = GUARD.commands.lock().unwrap();
    commands
        .write_all(line.as_bytes())
        .expect("the guard reads its commands");
    commands.flush().expect("the guard reads its commands");
}

/// Ends this process when the runner ends.
pub fn watch(pid: u32, ending: Ending) {
    let how = match ending {
        Ending::Kill => "kill",
        Ending::Quit => "quit",
    };
    send_command(&format!("{how} {pid}\n"));
}

/// No longer ends this process: it has ended, and its id may soon belong to another one.
pub fn forget(pids: &[u32]) {
    let lines = pids.iter().fold(String::new(), |mut lines, pid| {
        let _ = writeln!(lines, "done {pid}");
        lines
    });
    send_command(&lines);
}

/// A new folder, removed with everything else when the runner ends. Its path is short, because socket paths are
/// limited.
pub fn scratch(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = GUARD
        .root
        .join(format!("{name}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir(&folder).expect("the temporary folder can be written");
    folder
}

/// Removes a folder of [`scratch`] early: a long run would fill the disk.
pub fn discard(folder: &Path) {
    if folder.starts_with(&GUARD.root) {
        let _ = std::fs::remove_dir_all(folder);
    }
}
