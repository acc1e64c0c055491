//! Counts of the attempts of one interval, with a bounded number of rows.

use std::collections::HashMap;

use super::{ROWS_OF_TOKENS, ROWS_PER_ACCOUNT, ROWS_PER_CLIENT, network};
use crate::clock::UnixMillis;
use crate::model::{AuditEvent, AuditType, Grant, new_uuid};
use crate::secret::Entropy;

/// How a failure is recorded. A label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// By a row of its own.
    Row,
    /// By the count of a row.
    Counted,
    /// By the count of a row that does not say where, because the interval has no further rows.
    LeftOut,
}

impl Recorded {
    pub(super) const ALL: [Self; 3] = [Self::Row, Self::Counted, Self::LeftOut];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Counted => "counted",
            Self::LeftOut => "left_out",
        }
    }
}

/// Attempts that are counted in one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: AuditType,
    grant: Option<Grant>,
    place: Place,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    /// At this account, from any source.
    Account(String),
    /// From this network, at this existing client or, if empty, at a name that does not exist.
    Network { network: String, client: String },
    /// Tokens of this client.
    Client(String),
    /// Beyond the limit of rows.
    Anywhere,
}

struct Count {
    /// The first event. A field in which a later event differs is emptied.
    event: AuditEvent,
    last: UnixMillis,
    number: u64,
}

impl Count {
    const fn of(event: AuditEvent) -> Self {
        Self {
            last: event.time,
            number: 1,
            event,
        }
    }

    fn add(&mut self, event: &AuditEvent) {
        self.number += 1;
        self.last = self.last.max(event.time);
        for (kept, other) in [
            (&mut self.event.subject, &event.subject),
            (&mut self.event.client_id, &event.client_id),
            (&mut self.event.origin.actor, &event.origin.actor),
            (&mut self.event.origin.ip_address, &event.origin.ip_address),
            (&mut self.event.origin.request_id, &event.origin.request_id),
        ] {
            if kept != other {
                kept.clear();
            }
        }
        if self.event.session_id != event.session_id {
            self.event.session_id = None;
        }
    }

    /// The row. Its time is that of the writing: a reader that follows the trail has already read everything older.
    fn into_event(self, place: &Place, now: UnixMillis, entropy: &dyn Entropy) -> AuditEvent {
        let first = self.event.time;
        let event = AuditEvent {
            id: new_uuid(now, entropy),
            time: now,
            ..self.event
        }
        .with_detail("count", self.number)
        .with_detail("first_unix_ms", first.0)
        .with_detail("last_unix_ms", self.last.0);
        match place {
            Place::Account(_) | Place::Client(_) => event,
            Place::Network { network, .. } => event.with_detail("network", network.as_str()),
            Place::Anywhere => event.with_detail("over_limit", true),
        }
    }
}

/// The attempts of the current interval.
pub(super) struct Counts {
    rows_per_interval: u32,
    /// How many rows failures at accounts may still cause. Half of all rows are theirs alone, so that a flood of free
    /// failures does not hide them.
    account_rows: u32,
    /// How many rows other failures may still cause.
    other_rows: u32,
    /// How many tokens may still have a row of their own.
    token_rows: u32,
    /// How many rows of its own each account has, or each client for its tokens, by type. Bounded by `account_rows` and
    /// `token_rows`.
    own_rows: HashMap<(AuditType, String), u32>,
    /// Bounded by `account_rows`, `other_rows`, the number of clients, and the number of types and grants.
    counted: HashMap<Key, Count>,
    /// Finished rows that wait to be written.
    rows: Vec<AuditEvent>,
}

impl Counts {
    pub(super) fn new(rows_per_interval: u32) -> Self {
        let mut counts = Self {
            rows_per_interval,
            account_rows: 0,
            other_rows: 0,
            token_rows: 0,
            own_rows: HashMap::new(),
            counted: HashMap::new(),
            rows: Vec::new(),
        };
        counts.reset_limits();
        counts
    }

    fn reset_limits(&mut self) {
        self.other_rows = self.rows_per_interval / 2;
        self.account_rows = self.rows_per_interval - self.other_rows;
        self.token_rows = ROWS_OF_TOKENS;
        self.own_rows.clear();
    }

    /// Adds a failure at the account that is the subject of the event.
    pub(super) fn add_at_account(&mut self, kind: AuditType, grant: Option<Grant>, event: AuditEvent) -> Recorded {
        let place = Place::Account(event.subject.clone());
        let key = Key { kind, grant, place };
        if let Some(count) = self.counted.get_mut(&key) {
            count.add(&event);
            return Recorded::Counted;
        }
        if self.account_rows == 0 {
            return self.leave_out(kind, grant, event);
        }
        self.account_rows -= 1;
        let own_rows = self.own_rows.entry((kind, event.subject.clone())).or_default();
        if *own_rows < ROWS_PER_ACCOUNT {
            *own_rows += 1;
            self.rows.push(event);
            return Recorded::Row;
        }
        self.counted.insert(key, Count::of(event));
        Recorded::Counted
    }

    /// Adds a failure that is counted by the network of its source. `client` is the existing client that it concerned.
    pub(super) fn add(&mut self, kind: AuditType, grant: Option<Grant>, client: &str, event: AuditEvent) -> Recorded {
        let place = Place::Network {
            network: network(&event.origin.ip_address),
            client: client.to_owned(),
        };
        let key = Key { kind, grant, place };
        if let Some(count) = self.counted.get_mut(&key) {
            count.add(&event);
            return Recorded::Counted;
        }
        if self.other_rows == 0 {
            return self.leave_out(kind, grant, event);
        }
        self.other_rows -= 1;
        self.counted.insert(key, Count::of(event));
        Recorded::Counted
    }

    /// Adds a token of the client of the event. Returns the event if it gets a row of its own.
    pub(super) fn add_token(&mut self, kind: AuditType, event: AuditEvent) -> Option<AuditEvent> {
        let key = Key {
            kind,
            grant: None,
            place: Place::Client(event.client_id.clone()),
        };
        if let Some(count) = self.counted.get_mut(&key) {
            count.add(&event);
            return None;
        }
        if self.token_rows > 0 {
            let own_rows = self.own_rows.entry((kind, event.client_id.clone())).or_default();
            if *own_rows < ROWS_PER_CLIENT {
                *own_rows += 1;
                self.token_rows -= 1;
                return Some(event);
            }
        }
        self.counted.insert(key, Count::of(event));
        None
    }

    /// Adds a finished row, which has been counted.
    pub(super) fn add_row(&mut self, event: AuditEvent) {
        self.rows.push(event);
    }

    fn leave_out(&mut self, kind: AuditType, grant: Option<Grant>, event: AuditEvent) -> Recorded {
        let place = Place::Anywhere;
        let key = Key { kind, grant, place };
        match self.counted.get_mut(&key) {
            Some(count) => count.add(&event),
            None => drop(self.counted.insert(key, Count::of(event))),
        }
        Recorded::LeftOut
    }

    /// Turns the counts into rows and begins the next interval.
    pub(super) fn end_interval(&mut self, now: UnixMillis, entropy: &dyn Entropy) {
        let rows = std::mem::take(&mut self.counted)
            .into_iter()
            .map(|(key, count)| count.into_event(&key.place, now, entropy));
        self.rows.extend(rows);
        self.reset_limits();
    }

    /// How many events are in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.rows.len() + self.counted.len() + self.own_rows.len()
    }

    pub(super) fn take_rows(&mut self) -> Vec<AuditEvent> {
        std::mem::take(&mut self.rows)
    }
}
