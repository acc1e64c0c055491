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

/// The processor time that a process has used, in microseconds. The kernel counts in steps of 10 ms.
pub fn cpu_micros(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the process may contain spaces; the fields after it do not (proc_pid_stat(5): 14 utime, 15 stime).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap_or(0))
        .sum();
    ticks * 10_000
}
