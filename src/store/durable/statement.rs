//! Statements that both databases run. The text of a statement is written once; the few words in which the dialects
//! differ are listed in [`part`].

use serde::Serialize;
use uuid::Uuid;

use crate::clock::UnixMillis;
use crate::model::{ClientId, Error, ErrorKind, KeyId, Result, SessionId, UserId, Username};

/// A statement with its arguments, as a text for each database.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) postgres: &'static str,
    pub(crate) sqlite: &'static str,
    /// `$1` is the first one. A text may use an argument more than once.
    pub(crate) arguments: Vec<Value>,
    /// When [`super::Backend::run_audited`] writes the event.
    pub(crate) event_rule: EventRule,
    /// Whether PostgreSQL plans the statement for its arguments each time.
    pub(crate) planned_afresh: bool,
    /// The error for a caller when the key of a row is taken already; `INTERNAL` if none is set.
    pub(crate) if_taken: Option<ErrorKind>,
}

/// When the audit event of a single statement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventRule {
    /// Only if the statement changed a row. The statement is never sent twice.
    IfChanged,
    /// In any case. Running the statement twice has the effect of running it once, so it may be sent twice.
    Always,
}

/// An argument. The comments say how it is stored where the databases differ.
#[derive(Clone)]
pub(crate) enum Value {
    /// SQLite: 0 or 1.
    Boolean(bool),
    Integer(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
    /// SQLite: text, in lower case with hyphens.
    Uuid(Option<Uuid>),
    /// PostgreSQL: `json`, which keeps the text as it was given. SQLite: text.
    Json(String),
    /// PostgreSQL: `text[]`. SQLite: a JSON list.
    List(Vec<String>),
}

impl Statement {
    /// A statement without arguments so far. Use [`sql`] or [`sql_with_event`] to write its texts.
    pub(crate) const fn new(postgres: &'static str, sqlite: &'static str, event_rule: EventRule) -> Self {
        Self {
            postgres,
            sqlite,
            arguments: Vec::new(),
            event_rule,
            planned_afresh: false,
            if_taken: None,
        }
    }

    /// A statement for PostgreSQL alone.
    pub(crate) const fn postgres(text: &'static str) -> Self {
        Self::new(text, "", EventRule::IfChanged)
    }

    /// Adds an argument: `$1`, then `$2`, and so on.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.arguments.push(value.into());
        self
    }

    /// Refuses text with a NUL, which PostgreSQL cannot store. Every backend calls this before it sends a statement.
    pub(crate) fn check_storable(&self) -> Result<()> {
        let has_nul = |value: &Value| match value {
            Value::Text(text) => text.iter().any(|text| text.contains('\0')),
            Value::List(texts) => texts.iter().any(|text| text.contains('\0')),
            Value::Boolean(_) | Value::Integer(_) | Value::Bytes(_) | Value::Uuid(_) | Value::Json(_) => false,
        };
        if self.arguments.iter().any(has_nul) {
            return Err(Error::new(ErrorKind::InvalidRequest, "a text must not hold NUL"));
        }
        Ok(())
    }

    /// Makes PostgreSQL plan the statement each time: the best plan of a listing depends on its arguments.
    pub(crate) const fn planned_afresh(mut self) -> Self {
        self.planned_afresh = true;
        self
    }

    /// Makes the statement fail with `kind` if it would make a second row of a unique key.
    pub(crate) const fn if_taken(mut self, kind: ErrorKind) -> Self {
        self.if_taken = Some(kind);
        self
    }
}

/// A JSON argument.
pub(crate) fn json(value: &(impl Serialize + ?Sized)) -> Result<Value> {
    Ok(Value::Json(serde_json::to_string(value).map_err(Error::internal)?))
}

/// A [`Statement`] of the parts, which are string literals, words of [`part`] and macros that expand to a literal.
macro_rules! sql {
    ($($part:tt $(! $arguments:tt)?),+ $(,)?) => {
        $crate::store::durable::statement::Statement::new(
            concat!($($crate::store::durable::statement::part!(postgres $part $(! $arguments)?)),+),
            concat!($($crate::store::durable::statement::part!(sqlite $part $(! $arguments)?)),+),
            $crate::store::durable::statement::EventRule::IfChanged,
        )
    };
}
pub(crate) use sql;

/// Like [`sql`], for [`super::Backend::run_audited`]. The statement's own arguments begin at `$12`, after the event's.
///
/// PostgreSQL writes the row and the event in one statement, which is one round trip. SQLite runs two statements in one
/// transaction, which costs it nothing.
macro_rules! sql_with_event {
    (IfChanged, $($parts:tt)+) => {
        $crate::store::durable::statement::sql_with_event!(@ IfChanged, "FROM done", $($parts)+)
    };
    (Always, $($parts:tt)+) => {
        $crate::store::durable::statement::sql_with_event!(@ Always, "WHERE true", $($parts)+)
    };
    (@ $rule:ident, $from:literal, $($part:tt $(! $arguments:tt)?),+ $(,)?) => {
        $crate::store::durable::statement::Statement::new(
            concat!(
                "WITH done AS (",
                $($crate::store::durable::statement::part!(postgres $part $(! $arguments)?)),+,
                " RETURNING 1), audited AS (",
                $crate::store::durable::audit::insert_event!($from),
                ") SELECT EXISTS (SELECT FROM done)"
            ),
            concat!($($crate::store::durable::statement::part!(sqlite $part $(! $arguments)?)),+),
            $crate::store::durable::statement::EventRule::$rule,
        )
    };
}
pub(crate) use sql_with_event;

/// A part of a statement in a dialect. SQLite has one writer, so it needs no locks on rows.
macro_rules! part {
    ($dialect:ident $text:literal) => { $text };
    ($dialect:ident $columns:ident ! $arguments:tt) => { $columns! $arguments };
    // The database's time in Unix milliseconds. SQLite's driver gives the argument its value.
    (postgres now) => { "countersign_ms(clock_timestamp())" };
    (sqlite now) => { "$now" };
    (postgres for_update) => { " FOR UPDATE" };
    (sqlite for_update) => { "" };
    (postgres skip_locked) => { " FOR UPDATE SKIP LOCKED" };
    (sqlite skip_locked) => { "" };
    // An array on PostgreSQL, where a join with the subquery would read the whole table.
    (postgres in_subquery) => { " = ANY (ARRAY(" };
    (sqlite in_subquery) => { " IN (" };
    (postgres end_subquery) => { "))" };
    (sqlite end_subquery) => { ")" };
    // The sorting of SQLite, by bytes.
    (postgres by_bytes) => { " COLLATE \"C\"" };
    (sqlite by_bytes) => { "" };
    // The time before which rows have certainly expired. SQLite's is not one to which the clock has leapt for a moment: a
    // token whose revocation is removed early would be valid again when the clock is set back.
    (postgres earliest_now) => { "countersign_ms(clock_timestamp())" };
    (sqlite earliest_now) => { "$earliest_now" };
    // One replica at a time: no other statement uses the number of the lock, which is held until the statement ends. A
    // replica that does not get it finds no row.
    (postgres one_replica) => { "(SELECT pg_try_advisory_xact_lock(7235421170339)) AND " };
    (sqlite one_replica) => { "" };
    // Lists the elements of a JSON list, in the column `value`.
    (postgres json_elements) => { "json_array_elements" };
    (sqlite json_elements) => { "json_each" };
    // Before a column: SQLite does not walk its index, which is not in the order of the listing.
    (postgres without_index) => { "" };
    (sqlite without_index) => { "+" };
    // After a text: the value of a column of UUIDs, or of JSON.
    (postgres as_uuid) => { "::uuid" };
    (sqlite as_uuid) => { "" };
    (postgres as_json) => { "::json" };
    (sqlite as_json) => { "" };
    (postgres greatest) => { "greatest" };
    (sqlite greatest) => { "max" };
    (postgres least) => { "least" };
    (sqlite least) => { "min" };
}
pub(crate) use part;

macro_rules! values {
    ($($type:ty: $value:ident => $made:expr;)+) => {
        $(impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $made
            }
        })+
    };
}

values! {
    bool: value => Self::Boolean(value);
    i64: value => Self::Integer(Some(value));
    Option<i64>: value => Self::Integer(value);
    UnixMillis: value => Self::Integer(Some(value.0));
    Option<UnixMillis>: value => Self::Integer(value.map(|moment| moment.0));
    &str: value => Self::Text(Some(value.to_owned()));
    &String: value => Self::Text(Some(value.clone()));
    String: value => Self::Text(Some(value));
    Option<&str>: value => Self::Text(value.map(str::to_owned));
    &Username: value => Self::Text(Some(value.as_str().to_owned()));
    &ClientId: value => Self::Text(Some(value.as_str().to_owned()));
    &KeyId: value => Self::Text(Some(value.as_str().to_owned()));
    [u8; 32]: value => Self::Bytes(value.to_vec());
    &Vec<u8>: value => Self::Bytes(value.clone());
    Uuid: value => Self::Uuid(Some(value));
    UserId: value => Self::Uuid(Some(value.0));
    SessionId: value => Self::Uuid(Some(value.0));
    Option<SessionId>: value => Self::Uuid(value.map(|id| id.0));
    &Vec<String>: value => Self::List(value.clone());
    Vec<String>: value => Self::List(value);
}
