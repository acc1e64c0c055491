use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::Value;
use tracing::subscriber::with_default;

use super::logs::{self, Writers};
use super::sanitize::sanitized;
use super::{AUDIT_TARGET, Metrics};
use crate::config::{self, Config, Layers, LogFormat};

/// The written bytes, shared with the thread that writes.
#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl Write for SharedBuffer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SharedBuffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

/// A standard error whose reader is stuck until the sender is dropped.
struct BlockedWriter(Receiver<()>);

impl Write for BlockedWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn config(filter: &str, format: LogFormat) -> config::Telemetry {
    let mut config = Config::load(&Layers::default()).unwrap().telemetry;
    (config.log_filter, config.log_format) = (filter.to_owned(), Some(format));
    config
}

/// The log and the audit log that `events` writes.
fn logged(config: &config::Telemetry, terminal: bool, events: impl FnOnce()) -> (String, String) {
    let (log, audit) = (SharedBuffer::default(), SharedBuffer::default());
    let (to_log, to_audit) = (log.clone(), audit.clone());
    let (subscriber, writers) = logs::subscriber(config, terminal, || to_log, || to_audit, None).unwrap();
    with_default(subscriber, events);
    drop(writers);
    (log.text(), audit.text())
}

#[test]
fn json_lines_contain_the_fields() {
    let config = config("info", LogFormat::Json);
    let (log, _) = logged(&config, true, || tracing::info!(user = "ada", count = 3, "made"));
    let line: Value = serde_json::from_str(&log).unwrap();
    assert_eq!(
        (&line["user"], &line["count"], &line["message"]),
        (&"ada".into(), &3.into(), &"made".into())
    );
    assert!(line["timestamp"].is_string() && line["level"] == "INFO");
}

#[test]
fn logged_values_cannot_forge_lines_or_control_the_terminal() {
    let hostile = "a\r\nfake line\u{1b}[2J\u{9b}31m\u{7}\u{202e}evil\u{2028}b\u{85}c";
    for (format, terminal) in [
        (LogFormat::Text, true),
        (LogFormat::Text, false),
        (LogFormat::Json, false),
    ] {
        let (log, audit) = logged(&config("info", format), terminal, || {
            tracing::info!(shown = %hostile, quoted = hostile, debug = ?hostile, "said {hostile}");
            tracing::info!(target: AUDIT_TARGET, actor = %hostile);
        });
        for text in [log, audit] {
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            let coloured = terminal && format == LogFormat::Text;
            let controls = text
                .trim_end()
                .chars()
                .filter(|c| c.is_control() && !(coloured && *c == '\u{1b}'));
            assert_eq!(controls.count(), 0, "{text:?}");
            assert!(!text.contains("\u{1b}[2J") && !text.contains('\u{202e}'), "{text:?}");
            if format == LogFormat::Json {
                serde_json::from_str::<Value>(&text).unwrap();
            }
        }
    }
}

#[test]
fn audit_events_go_to_the_audit_log_only_whatever_the_filter_is() {
    let (log, audit) = logged(&config("off", LogFormat::Json), false, || {
        tracing::info!(target: AUDIT_TARGET, r#type = "token.issued");
        tracing::error!("hidden");
    });
    assert_eq!(log, "");
    assert_eq!(audit.lines().count(), 1);
    let (log, audit) = logged(&config("info", LogFormat::Json), false, || {
        tracing::info!(target: AUDIT_TARGET, r#type = "token.issued");
        tracing::info!("shown");
    });
    assert_eq!((log.lines().count(), audit.lines().count()), (1, 1));
}

#[test]
fn trace_events_of_other_crates_are_never_written() {
    let (log, _) = logged(&config("trace", LogFormat::Json), false, || {
        tracing::trace!(target: "h2::codec", "canary of a header");
        tracing::debug!(target: "h2::codec", "a frame");
        tracing::trace!(target: "countersign::token", "ours");
        tracing::trace!(target: "countersignature", "a stranger's");
    });
    assert!(!log.contains("canary") && !log.contains("stranger"), "{log}");
    assert_eq!(log.lines().count(), 2);
}

#[test]
fn a_blocked_reader_delays_no_caller_and_dropped_lines_are_counted() {
    const EVENTS: usize = 30_000;
    let config = config("info", LogFormat::Json);
    let ((hold_log, log), (hold_audit, audit)): ((Sender<()>, _), (Sender<()>, _)) = (channel(), channel());
    let (subscriber, writers) =
        logs::subscriber(&config, false, || BlockedWriter(log), || BlockedWriter(audit), None).unwrap();
    let (done, finished) = channel();
    let thread = std::thread::spawn(move || {
        with_default(subscriber, || {
            for number in 0..EVENTS {
                tracing::info!(target: AUDIT_TARGET, number);
                tracing::info!(number);
            }
        });
        done.send(()).unwrap();
    });
    finished
        .recv_timeout(Duration::from_mins(1))
        .expect("logging waited for its reader");
    thread.join().unwrap();
    let Writers {
        log_dropped,
        audit_dropped,
        ..
    } = &writers;
    assert!(log_dropped.dropped_lines() > EVENTS / 2 && audit_dropped.dropped_lines() > EVENTS / 2);
    drop((hold_log, hold_audit, writers));
}

#[test]
fn metrics_include_the_dropped_lines() {
    let (subscriber, writers) =
        logs::subscriber(&config("off", LogFormat::Json), false, io::sink, io::sink, None).unwrap();
    let metrics = Metrics::install(vec![("audit", writers.audit_dropped.clone())]).unwrap();
    drop((subscriber, writers));
    ::metrics::histogram!("countersign_test_seconds").record(0.002);
    let text = metrics.render();
    for line in [
        "countersign_test_seconds_bucket{le=\"0.0025\"} 1",
        "countersign_log_dropped_total{sink=\"audit\"} 0",
        "countersign_build_info{version=",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    Metrics::install(Vec::new()).unwrap_err();
}

#[test]
fn printable_lines_are_unchanged() {
    let line = "\u{1b}[32m INFO\u{1b}[0m caf\u{e9} \u{1f980}\ttab\n";
    assert_eq!(sanitized(line), line);
    assert_eq!(sanitized("a\nb\n"), "a\\u000ab\n");
    assert_eq!(sanitized("\u{1b}[2J\u{1b}[\u{1b}"), "\\u001b[2J\\u001b[\\u001b");
    assert_eq!(sanitized("\n\n"), "\\u000a\n");
    assert_eq!(sanitized(""), "");
}

proptest! {
    #[test]
    fn no_control_character_passes(text in "(?s).{0,60}") {
        let clean = sanitized(&text);
        let body = clean.strip_suffix('\n').unwrap_or(&clean);
        let escape = char::from(0x1b);
        prop_assert!(!body.chars().any(|c| c.is_control() && c != '\t' && c != escape));
        prop_assert_eq!(sanitized(&clean), clean.as_ref());
    }
}
