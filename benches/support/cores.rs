//! Placement of processes on cores, and their processor time.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The core of the server.
pub const SERVER: usize = 0;
/// The core of the generator.
pub const GENERATOR: usize = 1;

/// Pins this thread, and the processes and threads that it starts from now on, to one core.
pub fn pin_self(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("a machine with two cores");
}

/// Runs `start` on the core of the server, where the processes that it starts stay.
pub fn on_server_core<T>(start: impl FnOnce() -> T) -> T {
    pin_self(SERVER);
    let started = start();
    pin_self(GENERATOR);
    started
}

/// Runs `start` without a pinned core; the processes that it starts, such as the stores, may use both cores.
pub fn anywhere<T>(start: impl FnOnce() -> T) -> T {
    let mut set = CpuSet::new();
    set.set(SERVER).unwrap();
    set.set(GENERATOR).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    let started = start();
    pin_self(GENERATOR);
    started
}

/// The processor time that a process has used, in microseconds.
pub fn cpu_micros(pid: u32) -> u64 {
    stat(pid).map_or(0, |stat| stat.own)
}

/// The processor time that a process and all its children have used, in microseconds.
pub fn cpu_micros_with_children(pid: u32) -> u64 {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        stat(name.to_str()?.parse().ok()?)
    });
    let children = processes.filter(|stat| stat.parent == pid).map(|stat| stat.own);
    children.sum::<u64>() + stat(pid).map_or(0, |stat| stat.own + stat.ended_children)
}

/// The parent of a process, and processor times in microseconds.
struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the process may contain spaces; the fields after it do not (proc_pid_stat(5): 4 ppid, 14 utime, 15 stime,
    // 16 cutime, 17 cstime).
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |first: usize| {
        let both = fields.get(first..first + 2)?.iter().map(|field| field.parse::<u64>());
        both.sum::<Result<u64, _>>().ok()
    };
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        // The time of the whole process has steps of 10 ms. The times of its threads are exact, but leave out threads that have
        // ended. Both are at most the true time.
        own: (ticks(11)? * 10_000).max(threads_micros(pid)),
        ended_children: ticks(13)? * 10_000,
    })
}

/// The processor time of the running threads of a process, in microseconds.
fn threads_micros(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    let nanos = threads.filter_map(|thread| {
        let schedstat = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        schedstat.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() / 1000
}
