//! JSON lines that `tracing-subscriber` does not make: audit events, whose details are an object, and the reason why the
//! process does not start.

use std::fmt;

use serde::Serializer as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field that holds an object.
const DETAILS: &str = "details";

/// Writes an audit event as one JSON object on a line, with the names of all other JSON lines.
pub(super) struct AuditJson;

impl<S, N> FormatEvent<S, N> for AuditJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::new(*event.metadata().level());
        event.record(&mut fields);
        fields.push("target", event.metadata().target());
        writeln!(writer, "{}", fields.line()?)
    }
}

/// A line of the log, as JSON, that says why the process does not start.
pub(super) fn start_failure(message: &str, exit_code: u8) -> String {
    let mut fields = Fields::new(Level::ERROR);
    fields.push("message", message);
    fields.push("exit_code", exit_code);
    fields.push("target", "countersign");
    fields.line().unwrap_or_default()
}

/// The fields of a line, in their order.
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// The fields with which every line begins.
    fn new(level: Level) -> Self {
        let mut timestamp = String::new();
        // Writing to a `String` cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
        let mut fields = Self(Vec::with_capacity(16));
        fields.push("timestamp", timestamp);
        fields.push("level", level.as_str());
        fields
    }

    fn push(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    fn line(self) -> Result<String, fmt::Error> {
        let mut line = Vec::with_capacity(512);
        serde_json::Serializer::new(&mut line)
            .collect_map(self.0)
            .map_err(|_| fmt::Error)?;
        String::from_utf8(line).map_err(|_| fmt::Error)
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        let value = match field.name() {
            DETAILS => serde_json::from_str::<Map<String, Value>>(&text).map_or(Value::String(text), Value::Object),
            _ => Value::String(text),
        };
        self.push(field.name().trim_start_matches("r#"), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field.name(), value);
    }
}
