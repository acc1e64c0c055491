//! The audit rows of attempts that one caller can make often: failed ones, and tokens of machines.
//!
//! Every other audit row belongs to a change of the store. A failed attempt needs neither a credential nor, for a client
//! secret, a hash, and a machine may ask for a token with every call, so a caller could otherwise fill the database with
//! rows. The rules:
//!
//! - A failure at an account that exists gets a row of its own, up to [`ROWS_PER_ACCOUNT`] in an interval. Further ones
//!   are counted: one row an interval says how many.
//! - All other failures are counted, with one row for each type, grant, network of the source and known client.
//! - An interval has a limit of rows of failures. Failures beyond it are counted in one row for each type and grant.
//! - A token of a machine gets a row of its own, which the call writes, up to [`ROWS_PER_CLIENT`] in an interval, and
//!   [`ROWS_OF_TOKENS`] of all clients. Further ones are counted, with one row for each type and client. A row that cannot
//!   be written waits in memory.
//!
//! No call waits for the row of a failure: the time of an answer would tell whether the account exists. A task writes the
//! rows of accounts at once and the counts each [`INTERVAL`]. A crash loses the counts since the last interval, at most a
//! minute.
//!
//! Names of users and clients that do not exist are stored as an HMAC: a user may have typed a password there.

mod counts;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::counts::{Counts, Recorded};
use crate::clock::Clock;
use crate::keys::seal::MasterKeyring;
use crate::model::audit::{Origin, Outcome};
use crate::model::{AuditEvent, AuditType, ErrorKind, Grant, Result, Source};
use crate::secret::Entropy;
use crate::store::AuditStore;

/// How often counts are written.
pub const INTERVAL: Duration = Duration::from_mins(1);

/// Failures at one account, of one type, that get a row of their own in an interval.
pub const ROWS_PER_ACCOUNT: u32 = 10;

/// Tokens of one machine, of one type, that get a row of their own in an interval.
pub const ROWS_PER_CLIENT: u32 = 60;

/// Tokens of all machines that get a row of their own in an interval.
pub const ROWS_OF_TOKENS: u32 = 600;

/// The pause after the store refused rows.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last rows may take at the shutdown.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

const METRIC: &str = "countersign_audit_failures_total";

/// A failed attempt.
#[derive(Debug)]
pub struct Failure<'a> {
    /// The type of the event.
    pub kind: AuditType,
    /// The credential of the attempt; `None` for a logged-in user's proof of a password.
    pub grant: Option<Grant>,
    /// The user or client that the attempt concerned.
    pub subject: Subject<'a>,
    /// The client at which it happened; its id is not verified.
    pub client: Option<Named<'a>>,
    /// The caller and the address that the attempt came from.
    pub origin: Origin,
}

/// What a failed attempt concerned.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// The id of an existing user, whose password was checked: this costs a hash.
    Account(&'a str),
    /// A user or client whose credential costs no hash, or that may not exist.
    Other(Named<'a>),
}

/// A name that the caller sent.
#[derive(Clone, Copy, Debug)]
pub enum Named<'a> {
    /// There is a user or client with this name.
    Known(&'a str),
    /// There is none.
    Unknown(&'a str),
    /// The attempt was refused before a user or client was looked up.
    NotLookedUp(&'a str),
}

impl<'a> Named<'a> {
    /// The name of a user or client that exists or not.
    #[must_use]
    pub const fn of(name: &'a str, exists: bool) -> Self {
        if exists { Self::Known(name) } else { Self::Unknown(name) }
    }
}

/// Writes the audit rows of frequent attempts. One for each replica.
pub struct AttemptLog {
    store: Arc<dyn AuditStore>,
    master: Arc<MasterKeyring>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    counts: Mutex<Counts>,
    /// There are rows to write now.
    due: Notify,
    /// Rows that the store has not acknowledged yet. They keep their ids, so that a second attempt writes none twice.
    unwritten: tokio::sync::Mutex<Vec<AuditEvent>>,
}

impl std::fmt::Debug for AttemptLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AttemptLog")
    }
}

impl AttemptLog {
    /// A log that writes at most about `rows_per_interval` rows of failures in an [`INTERVAL`].
    #[must_use]
    pub fn new(
        store: Arc<dyn AuditStore>,
        master: Arc<MasterKeyring>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        rows_per_interval: u32,
    ) -> Self {
        describe_counter!(METRIC, "Failed attempts, by how the audit trail records them.");
        for recorded in Recorded::ALL {
            counter!(METRIC, "recorded" => recorded.as_str()).increment(0);
        }
        Self {
            store,
            master,
            clock,
            entropy,
            counts: Mutex::new(Counts::new(rows_per_interval)),
            due: Notify::new(),
            unwritten: tokio::sync::Mutex::default(),
        }
    }

    /// Records a failed attempt. Waits for nothing.
    pub fn record(&self, failure: &Failure<'_>) {
        let event = self.event(failure);
        let recorded = {
            let mut counts = self.counts.lock();
            match failure.subject {
                Subject::Account(_) => counts.add_at_account(failure.kind, failure.grant, event),
                Subject::Other(Named::Known(client)) => counts.add(failure.kind, failure.grant, client, event),
                Subject::Other(Named::Unknown(_) | Named::NotLookedUp(_)) => {
                    counts.add(failure.kind, failure.grant, "", event)
                }
            }
        };
        counter!(METRIC, "recorded" => recorded.as_str()).increment(1);
        if recorded == Recorded::Row {
            self.due.notify_one();
        }
    }

    /// Records a token that the client of the event got, before the token is sent. A row that cannot be written, because the
    /// store is away or takes no writes, waits in memory: machines go on while commits wait.
    ///
    /// # Errors
    /// Those of the store, except `STORE_UNAVAILABLE`.
    pub async fn record_token(&self, kind: AuditType, event: AuditEvent) -> Result<()> {
        let Some(event) = self.count_token(kind, event) else {
            return Ok(());
        };
        match self.store.append_audit(&event).await {
            Err(error) if error.kind == ErrorKind::StoreUnavailable => {
                // Its id tells it apart if the store wrote it and could not say so. Bounded like the rows of its own.
                self.counts.lock().add_row(event);
                self.due.notify_one();
                Ok(())
            }
            written => written,
        }
    }

    /// Counts a token. Returns the event if it has a row of its own.
    fn count_token(&self, kind: AuditType, event: AuditEvent) -> Option<AuditEvent> {
        self.counts.lock().add_token(kind, event)
    }

    /// The subject of events about a name that no user or client has.
    #[must_use]
    pub fn pseudonym(&self, name: &str) -> String {
        unknown(&self.master, name)
    }

    fn event(&self, failure: &Failure<'_>) -> AuditEvent {
        let subject = match failure.subject {
            Subject::Account(name) => name.to_owned(),
            Subject::Other(name) => self.name(name),
        };
        let now = self.clock.now();
        // A trusted caller's statement of an address can be any text, and the rows of one statement fail together.
        let address: Option<IpAddr> = failure.origin.ip_address.parse().ok();
        let origin = Origin {
            ip_address: address
                .map(|address| address.to_canonical().to_string())
                .unwrap_or_default(),
            ..failure.origin.clone()
        };
        let mut event =
            AuditEvent::new(failure.kind, &subject, &origin, now, &*self.entropy).with_outcome(Outcome::Denied);
        if let Some(client) = failure.client {
            event.client_id = self.name(client);
        }
        if let Some(grant) = failure.grant {
            event = event.with_detail("grant", grant.as_str());
        }
        event
    }

    /// The name as it is stored.
    fn name(&self, name: Named<'_>) -> String {
        match name {
            Named::Known(name) => name.to_owned(),
            Named::Unknown(name) | Named::NotLookedUp(name) => self.pseudonym(name),
        }
    }

    /// Writes all rows that are due: those of accounts, and the counts so far.
    ///
    /// # Errors
    /// Those of the store. Nothing is lost then: the next call writes the same rows.
    pub async fn flush(&self) -> Result<()> {
        // First, so that an outage never has more rows waiting than two intervals.
        self.write().await?;
        let now = self.clock.now();
        self.counts.lock().end_interval(now, &*self.entropy);
        self.write().await
    }

    /// Writes all rows, also those that were added while the store refused earlier ones.
    async fn write(&self) -> Result<()> {
        let mut unwritten = self.unwritten.lock().await;
        loop {
            if unwritten.is_empty() {
                *unwritten = self.counts.lock().take_rows();
            }
            if unwritten.is_empty() {
                return Ok(());
            }
            match self.store.append_audit_events(&unwritten).await {
                // Rows that no attempt can write must not hold up all later ones.
                Err(error) if error.kind == ErrorKind::InvalidRequest => {
                    tracing::error!(%error, events = unwritten.len(), "the store refuses audit events; they are lost");
                }
                written => written?,
            }
            unwritten.clear();
        }
    }

    /// Writes rows when they are due, until `stop`; then the rest.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let start = tokio::time::Instant::now() + INTERVAL;
        let mut ticks = tokio::time::interval_at(start, INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            let written = tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.flush().await,
                () = self.due.notified() => self.write().await,
            };
            match written {
                Ok(()) => failing = false,
                Err(error) => {
                    if !failing && !error.is_logged {
                        tracing::warn!(%error, "cannot write the counted audit events; they wait in memory");
                    }
                    failing = true;
                    self.due.notify_one();
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = tokio::time::sleep(RETRY_INTERVAL) => {}
                    }
                }
            }
        }
        match tokio::time::timeout(SHUTDOWN_GRACE, self.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the last counted audit events are lost"),
            Err(_) => tracing::error!("the last counted audit events are lost: the store is too slow"),
        }
    }
}

/// The stored form of a name that no user or client has: the same for the same name on every replica, until the first
/// master key changes.
fn unknown(master: &MasterKeyring, name: &str) -> String {
    use std::fmt::Write as _;
    let tag = master.throttle_name(format!("audit\0unknown\0{name}").as_bytes());
    let mut text = "unknown:".to_owned();
    for byte in &tag[..8] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The network of an address: the /24 of an IPv4 address, the /48 of an IPv6 address; empty for a caller without an
/// address, on a Unix socket.
fn network(address: &str) -> String {
    let Some(source) = Source::parse(address) else {
        return String::new();
    };
    match source.site().address() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => format!("{address}/48"),
    }
}
