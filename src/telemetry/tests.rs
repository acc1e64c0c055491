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

/// Libraries format their lines for each call, where nothing says that nobody wants them.
#[test]
fn events_below_the_level_of_the_log_are_not_made() {
    use tracing::Subscriber as _;
    use tracing_subscriber::filter::LevelFilter;

    let hint = |filter: &str| {
        let to_nowhere = io::sink;
        let config = config(filter, LogFormat::Json);
        let (subscriber, _writers) = logs::subscriber(&config, true, to_nowhere, to_nowhere, None).unwrap();
        subscriber.max_level_hint()
    };
    assert_eq!(hint("info"), Some(LevelFilter::INFO));
    assert_eq!(hint("error"), Some(LevelFilter::INFO), "of the audit log");
    assert_eq!(hint("info,countersign=debug"), Some(LevelFilter::DEBUG));
    assert_eq!(hint("trace"), Some(LevelFilter::TRACE));
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
    let config = config("debug", LogFormat::Json);
    let ((hold_log, log), (hold_audit, audit)): ((Sender<()>, _), (Sender<()>, _)) = (channel(), channel());
    let (subscriber, writers) =
        logs::subscriber(&config, false, || BlockedWriter(log), || BlockedWriter(audit), None).unwrap();
    let (done, finished) = channel();
    let thread = std::thread::spawn(move || {
        with_default(subscriber, || {
            for number in 0..EVENTS {
                tracing::info!(target: AUDIT_TARGET, number);
                // A kind of line without a limit.
                tracing::debug!(target: "h2", number);
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
    let metrics = Metrics::install(vec![("audit", writers.audit_dropped.clone())], Vec::new()).unwrap();
    drop((subscriber, writers));
    ::metrics::histogram!("countersign_test_seconds").record(0.002);
    let text = metrics.render();
    for line in [
        "countersign_test_seconds_bucket{le=\"0.0025\"} 1",
        "countersign_log_dropped_total{sink=\"audit\"} 0",
        "countersign_log_limited_total{sink=\"log\"} 0",
        "countersign_build_info{version=",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    Metrics::install(Vec::new(), Vec::new()).unwrap_err();
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

/// Writes many lines of each kind. A kind is a call site with its fields, so this is the only call site.
fn storm(lines: usize) {
    for n in 0..lines {
        for (method, reason) in [("/a/A", "THROTTLED"), ("/a/A", "INTERNAL"), ("/a/B", "THROTTLED")] {
            tracing::warn!(method, reason, n, "a call failed");
        }
        tracing::info!(target: AUDIT_TARGET, r#type = %"token.issue.failed", outcome = %"denied", n);
        tracing::info!(target: AUDIT_TARGET, r#type = %"token.issued", outcome = %"success", n);
    }
}

#[test]
fn of_many_lines_of_one_kind_the_first_are_written_and_the_others_counted() {
    let (log, audit) = (SharedBuffer::default(), SharedBuffer::default());
    let (to_log, to_audit) = (log.clone(), audit.clone());
    let config = config("info", LogFormat::Json);
    let (subscriber, writers) = logs::subscriber(&config, false, || to_log, || to_audit, None).unwrap();
    with_default(subscriber, || {
        storm(1000);
        writers.limits.iter().for_each(|limit| limit.report(false));
        writers.limits.iter().for_each(|limit| limit.report(true));
        // A new interval.
        storm(1);
        writers.limits.iter().for_each(|limit| limit.report(true));
    });
    drop(writers);
    let lines = |text: String| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let (log, audit) = (lines(log.text()), lines(audit.text()));
    let written = |lines: &[Value], name: &str, value: &str| {
        let of_kind = lines
            .iter()
            .filter(|line| line[name] == value && line["left_out"].is_null());
        of_kind.count()
    };
    let left_out =
        |lines: &[Value]| -> Vec<u64> { lines.iter().filter_map(|line| line["left_out"].as_u64()).collect() };
    assert_eq!(
        (written(&log, "method", "/a/A"), written(&log, "method", "/a/B")),
        (22, 11)
    );
    assert_eq!(left_out(&log), [990, 990, 990]);
    let report = log
        .iter()
        .find(|line| line["left_out"] == 990 && line["kind"] == "/a/B THROTTLED")
        .unwrap();
    assert_eq!(
        (&report["like"], &report["level"]),
        (&"a call failed".into(), &"WARN".into())
    );
    assert_eq!(written(&audit, "type", "token.issue.failed"), 101);
    assert_eq!(
        written(&audit, "type", "token.issued"),
        1001,
        "successful events are all written"
    );
    assert_eq!(left_out(&audit), [900]);
    assert!(
        audit
            .iter()
            .any(|line| line["left_out"] == 900 && line["type"] == "token.issue.failed")
    );
}

#[test]
fn an_operator_who_asks_for_lines_of_other_crates_gets_all() {
    let (log, _) = logged(&config("debug", LogFormat::Json), false, || {
        for n in 0..200 {
            tracing::debug!(target: "h2::codec", n, "a frame");
            tracing::info!(target: "h2::codec", n, "a connection");
            tracing::debug!(target: "countersign::grpc", n, "a refused call");
        }
    });
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(
        (lines("a frame"), lines("a connection"), lines("a refused call")),
        (200, 10, 100)
    );
}

#[test]
fn libraries_are_silent_unless_they_are_asked_for() {
    let events = || {
        tracing::error!(target: "fred::router", "a broken connection");
        tracing::warn!(target: "sqlx_core::pool", "a slow statement");
        tracing::error!(target: "opentelemetry_sdk", "an export");
        tracing::warn!(target: "rustls", "another library");
        tracing::info!(target: "countersign::store", "ours");
    };
    for (filter, lines) in [
        ("info", 2),
        ("warn", 1),
        ("info,countersign=debug", 2),
        ("info,fred=info", 3),
        ("info,sqlx=warn,opentelemetry=error", 4),
        ("debug", 5),
        ("countersign=info", 1),
        ("off", 0),
    ] {
        let (log, _) = logged(&config(filter, LogFormat::Json), false, events);
        assert_eq!(log.lines().count(), lines, "{filter}: {log}");
    }
}

#[test]
fn the_details_of_an_audit_event_are_an_object() {
    let event = || {
        tracing::info!(target: AUDIT_TARGET, r#type = %"token.issued", count = 3,
            details = %r#"{"grant":"password","nested":{"a":[1]}}"#);
    };
    let (_, audit) = logged(&config("info", LogFormat::Json), false, event);
    let line: Value = serde_json::from_str(&audit).unwrap();
    assert_eq!(line["details"]["nested"]["a"][0], 1);
    assert_eq!(
        (&line["type"], &line["count"], &line["target"], &line["level"]),
        (&"token.issued".into(), &3.into(), &"audit".into(), &"INFO".into())
    );
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    let (_, text) = logged(&config("info", LogFormat::Text), false, event);
    assert!(text.contains(r#"details={"grant":"password""#), "{text}");
}

#[test]
fn a_refused_call_has_one_line_a_minute_for_each_kind() {
    let (log, _) = logged(&config("info", LogFormat::Json), false, || {
        for n in 0..50 {
            for method in ["/a/A", "/a/B"] {
                tracing::warn!(method, code = ?Some("Unavailable"), request_id = n, "a store is away");
            }
        }
    });
    assert_eq!(log.lines().count(), 2, "{log}");
}
