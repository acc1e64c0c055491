//! Limits how many log lines of one kind are written, so that callers cannot fill the disk of the log.
//!
//! The kind of a line is its call site with its `method`, `reason`, `code` and `type`. The first lines of each minute are
//! written, of refused calls only one. Then one line says how many more there were.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};
use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};

use super::{AUDIT_TARGET, is_ours};
use crate::clock::{Clock as _, SystemClock};
use crate::model::Outcome;

/// The time in which lines are counted.
const INTERVAL: Duration = Duration::from_mins(1);

/// Lines of one kind in an interval. A storm of one kind then writes about 5 MB a day.
const LOG_LINES: u32 = 10;

/// Warnings about one kind of refused call in an interval. They are alike but for the id of the request.
const CALL_LINES: u32 = 1;

/// `DEBUG` lines of one kind in an interval. They are written only if the operator looks for something.
const DEBUG_LINES: u32 = 100;

/// Audit events of one type with the outcome `denied` in an interval. Most are limited before, with their rows.
const AUDIT_LINES: u32 = 100;

/// The most kinds. Further ones count as one: no kind contains what a caller sends, so there are some hundred.
const MAX_KINDS: usize = 1024;

/// The longest stored message, in bytes.
const MAX_MESSAGE: usize = 160;

const METRIC: &str = "countersign_log_limited_total";

/// Admits the first lines of each kind.
#[derive(Debug)]
pub(super) struct LineLimit {
    sink: Sink,
    clock: SystemClock,
    kinds: Mutex<HashMap<Kind, Window>>,
}

/// Where the lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    /// The log of everything else. Lines are limited, except those of other crates below `INFO`, and of `TRACE`: these are
    /// written only if the operator asks for them.
    Log,
    /// The log of audit events. Only denied attempts are limited.
    Audit,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// `None` if there are too many kinds.
    callsite: Option<Identifier>,
    fields: String,
}

#[derive(Debug)]
struct Window {
    /// By the monotonic clock.
    began: Duration,
    lines: u32,
    left_out: u64,
    /// Lines that earlier windows left out, not reported so far.
    left_out_before: u64,
    level: Level,
    message: String,
}

impl LineLimit {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            clock: SystemClock::new(),
            kinds: Mutex::default(),
        }
    }

    /// Whether the line is written; counts it.
    fn admits(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // The report itself.
        if metadata.module_path() == Some(module_path!()) || !self.limits(metadata) {
            return true;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        if self.sink == Sink::Audit && !fields.denied {
            return true;
        }
        let kind = Kind {
            callsite: Some(metadata.callsite()),
            fields: fields.kind,
        };
        let limit = self.limit(*metadata.level(), fields.is_call);
        self.admits_kind(kind, limit, *metadata.level(), fields.message)
    }

    const fn limit(&self, level: Level, is_call: bool) -> u32 {
        match (self.sink, level) {
            (Sink::Audit, _) => AUDIT_LINES,
            (Sink::Log, Level::DEBUG) => DEBUG_LINES,
            (Sink::Log, Level::WARN) if is_call => CALL_LINES,
            (Sink::Log, _) => LOG_LINES,
        }
    }

    fn limits(&self, metadata: &Metadata<'_>) -> bool {
        match self.sink {
            Sink::Audit => true,
            Sink::Log if is_ours(metadata.target()) => *metadata.level() <= Level::DEBUG,
            Sink::Log => *metadata.level() <= Level::INFO,
        }
    }

    fn admits_kind(&self, mut kind: Kind, limit: u32, level: Level, message: String) -> bool {
        let now = self.clock.monotonic();
        let mut kinds = self.kinds.lock();
        if kinds.len() >= MAX_KINDS && !kinds.contains_key(&kind) {
            kind = Kind {
                callsite: None,
                fields: String::new(),
            };
        }
        let window = kinds.entry(kind).or_insert_with(|| Window {
            began: now,
            lines: 0,
            left_out: 0,
            left_out_before: 0,
            level,
            message,
        });
        if now.saturating_sub(window.began) >= INTERVAL {
            window.end(now);
        }
        let admitted = window.lines < limit;
        if admitted {
            window.lines += 1;
        } else {
            window.left_out += 1;
        }
        admitted
    }

    /// Writes a line for each kind of which an ended interval left lines out; at the end of the process, of all.
    pub(super) fn report(&self, at_end: bool) {
        for left_out in self.left_out(self.clock.monotonic(), at_end) {
            left_out.log(self.sink);
        }
    }

    fn left_out(&self, now: Duration, at_end: bool) -> Vec<LeftOut> {
        let mut reports = Vec::new();
        let mut kinds = self.kinds.lock();
        kinds.retain(|kind, window| {
            let has_ended = at_end || now.saturating_sub(window.began) >= INTERVAL;
            let is_idle = has_ended && window.lines == 0;
            if has_ended {
                window.end(now);
            }
            let lines = std::mem::take(&mut window.left_out_before);
            if lines > 0 {
                reports.push(LeftOut {
                    lines,
                    level: window.level,
                    kind: kind.fields.clone(),
                    message: window.message.clone(),
                });
            }
            !is_idle
        });
        reports
    }
}

impl Window {
    fn end(&mut self, now: Duration) {
        self.left_out_before += self.left_out;
        (self.began, self.lines, self.left_out) = (now, 0, 0);
    }
}

/// How many lines of a kind were left out.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    lines: u64,
    level: Level,
    kind: String,
    message: String,
}

impl LeftOut {
    fn log(&self, sink: Sink) {
        let Self {
            lines,
            level,
            kind,
            message,
        } = self;
        match sink {
            Sink::Audit => tracing::info!(
                target: AUDIT_TARGET,
                left_out = lines,
                r#type = kind,
                outcome = Outcome::Denied.as_str(),
                "more events like this were left out of the log; the audit trail has them or their number"
            ),
            Sink::Log if *level == Level::ERROR => tracing::error!(left_out = lines, kind, like = message, "{MORE}"),
            Sink::Log if *level == Level::WARN => tracing::warn!(left_out = lines, kind, like = message, "{MORE}"),
            Sink::Log if *level == Level::DEBUG => tracing::debug!(left_out = lines, kind, like = message, "{MORE}"),
            Sink::Log => tracing::info!(left_out = lines, kind, like = message, "{MORE}"),
        }
        counter!(METRIC, "sink" => sink.as_str()).increment(*lines);
    }
}

const MORE: &str = "more lines like this were left out";

impl Sink {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Audit => "audit",
        }
    }
}

/// Describes the metric; once the recorder is installed.
pub(super) fn describe() {
    describe_counter!(
        METRIC,
        "Lines that were left out because there were many of their kind."
    );
    for sink in [Sink::Audit, Sink::Log] {
        counter!(METRIC, "sink" => sink.as_str()).increment(0);
    }
}

/// A [`LineLimit`] as the filter of a layer.
pub(super) struct Limited(pub(super) Arc<LineLimit>);

impl<S: Subscriber> Filter<S> for Limited {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.0.admits(event)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }
}

/// The fields of an event that matter here.
#[derive(Default)]
struct Fields {
    kind: String,
    message: String,
    denied: bool,
    /// Whether it is about a call that was refused.
    is_call: bool,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name().trim_start_matches("r#");
        self.is_call |= name == "code";
        match name {
            "method" | "reason" | "code" | "type" => {
                let space = if self.kind.is_empty() { "" } else { " " };
                let _ = write!(self.kind, "{space}{value:?}");
            }
            "message" => {
                self.message = format!("{value:?}");
                let end = self.message.floor_char_boundary(MAX_MESSAGE);
                self.message.truncate(end);
            }
            "outcome" => self.denied = format!("{value:?}") == Outcome::Denied.as_str(),
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}
