//! The metrics of the process that every Prometheus client has (`process_…`), from `/proc/self`.

use std::fs;

use metrics::{counter, describe_counter, describe_gauge, gauge};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Fields of `/proc/self/stat` behind the name of the program, by their number in proc(5) less three.
const USER_TICKS: usize = 14 - 3;
const SYSTEM_TICKS: usize = 15 - 3;
const THREADS: usize = 20 - 3;
const START_TICKS: usize = 22 - 3;
const VIRTUAL_BYTES: usize = 23 - 3;
const RESIDENT_PAGES: usize = 24 - 3;

/// Describes the metrics. Call it once the recorder is installed.
pub(super) fn describe() {
    describe_counter!("process_cpu_seconds_total", "Processor time that the process used.");
    for (name, help) in [
        ("process_resident_memory_bytes", "Memory of the process that is in RAM."),
        ("process_virtual_memory_bytes", "Address space of the process."),
        ("process_threads", "Threads of the process."),
        ("process_open_fds", "Open file descriptors."),
        ("process_max_fds", "Limit on open file descriptors."),
        (
            "process_start_time_seconds",
            "When the process was started, in Unix seconds.",
        ),
    ] {
        describe_gauge!(name, help);
    }
}

/// Reads the metrics. What cannot be read keeps its value.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
pub(super) fn collect() {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    if let Some(process) = ProcessStat::parse(&stat) {
        let ticks = clock_ticks_per_second().max(1);
        // Whole seconds, because a counter is a whole number.
        counter!("process_cpu_seconds_total").absolute(process.ticks / ticks);
        gauge!("process_resident_memory_bytes").set((process.resident_pages * page_size() as u64) as f64);
        gauge!("process_virtual_memory_bytes").set(process.virtual_bytes as f64);
        gauge!("process_threads").set(process.threads as f64);
        if let Some(boot) = boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default()) {
            gauge!("process_start_time_seconds").set(boot as f64 + process.start_ticks as f64 / ticks as f64);
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        // Without the descriptor that reads the folder.
        gauge!("process_open_fds").set(files.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        gauge!("process_max_fds").set(limit as f64);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ProcessStat {
    /// Processor time, in ticks.
    ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl ProcessStat {
    fn parse(stat: &str) -> Option<Self> {
        // The name of the program may contain blanks and brackets.
        let (_, fields) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            ticks: number(USER_TICKS)? + number(SYSTEM_TICKS)?,
            threads: number(THREADS)?,
            start_ticks: number(START_TICKS)?,
            virtual_bytes: number(VIRTUAL_BYTES)?,
            resident_pages: number(RESIDENT_PAGES)?,
        })
    }
}

/// When the machine was started, in Unix seconds.
fn boot_time(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 250 50 13 14 15 16 7 18 1000 4096000 300 x y";
        assert_eq!(
            ProcessStat::parse(stat),
            Some(ProcessStat {
                ticks: 300,
                threads: 7,
                start_ticks: 1000,
                virtual_bytes: 4_096_000,
                resident_pages: 300,
            })
        );
        assert_eq!(ProcessStat::parse("42 (a) S 1"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000));
    }

    #[test]
    fn this_process_has_all_metrics() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            describe();
            collect();
        });
        let text = handle.render();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_virtual_memory_bytes ",
            "process_threads ",
            "process_open_fds ",
            "process_max_fds ",
            "process_start_time_seconds ",
        ] {
            let line = text.lines().find(|line| line.starts_with(name));
            assert!(line.is_some(), "{name} is not in:\n{text}");
        }
    }
}
