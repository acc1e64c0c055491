//! Ends what a test runner leaves behind.
//!
//! Servers shared by all tests of a process live in statics, which nobody drops, and a runner may be killed. So one
//! small shell reads, on a pipe that only the runner holds, which processes it started. The pipe closes when the
//! runner is gone, however it went; the shell then ends the processes and removes the folder with all their files.
//! (`PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the server ends, and each test has its own.)

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

/// How a process is ended that outlived its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At once.
    Kill,
    /// SIGQUIT, on which PostgreSQL ends its backends and frees its shared memory; at once if that takes 3 s.
    Quit,
}

struct Guard {
    told: Mutex<ChildStdin>,
    root: PathBuf,
}

static GUARD: LazyLock<Guard> = LazyLock::new(|| {
    let root = tempfile::Builder::new()
        .prefix("countersign-test-")
        .tempdir()
        .expect("the temporary folder can be written")
        .keep();
    // A server that runs as another user must get through to its own folder below.
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o711)).unwrap();
    let told = Command::new("sh")
        .args(["-c", SCRIPT, "guard"])
        .arg(&root)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C goes to the foreground group; the guard has its work to do just then.
        .process_group(0)
        .spawn()
        .expect("sh starts")
        .stdin
        .expect("its input is a pipe");
    Guard {
        told: Mutex::new(told),
        root,
    }
});

fn tell(line: &str) {
    let mut told = GUARD.told.lock().unwrap();
    told.write_all(line.as_bytes()).expect("the guard listens");
    told.flush().expect("the guard listens");
}

/// This process is to be ended with the runner.
pub fn watch(pid: u32, ending: Ending) {
    let how = match ending {
        Ending::Kill => "kill",
        Ending::Quit => "quit",
    };
    tell(&format!("{how} {pid}\n"));
}

/// This process has ended; its id may be another's soon.
pub fn forget(pids: &[u32]) {
    let lines = pids.iter().fold(String::new(), |mut lines, pid| {
        let _ = writeln!(lines, "done {pid}");
        lines
    });
    tell(&lines);
}

/// A folder of its own, removed with everything else when the runner ends. Short, for the sake of socket paths.
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
