//! Who runs on which core, and what they cost there.

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The server's core.
pub const SERVER: usize = 0;
/// The generator's.
pub const GENERATOR: usize = 1;

/// Keeps this thread, and what it starts from now on, on one core.
pub fn pin_self(core: usize) {
    let mut set = CpuSet::new();
    set.set(core).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).expect("a machine with two cores");
}

/// What `start` starts runs on the server's core.
pub fn on_server_core<T>(start: impl FnOnce() -> T) -> T {
    pin_self(SERVER);
    let started = start();
    pin_self(GENERATOR);
    started
}

/// What `start` starts may run anywhere: the stores.
pub fn anywhere<T>(start: impl FnOnce() -> T) -> T {
    let mut set = CpuSet::new();
    set.set(SERVER).unwrap();
    set.set(GENERATOR).unwrap();
    sched_setaffinity(Pid::from_raw(0), &set).unwrap();
    let started = start();
    pin_self(GENERATOR);
    started
}

/// The processor time that a process has used, in microseconds; the kernel counts in steps of 10 ms.
pub fn cpu_micros(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces; the fields after it do not (proc_pid_stat(5): 14 utime, 15 stime).
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap_or(0))
        .sum();
    ticks * 10_000
}
