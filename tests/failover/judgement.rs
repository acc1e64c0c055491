//! What a run shows: for how long calls failed, and whether anything was lost or undone.

use std::fmt;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::support::Countersign;
use crate::support::errors::{Errors, unexplained};
use crate::support::random::Random;
use crate::support::web::get;
use crate::traffic::{Clients, Record, Revoked, SeenActive, Session};

/// Logins of so long before a fault may be lost with it: what the stores had not copied yet.
const MAY_BE_LOST: Duration = Duration::from_secs(5);

/// How long revoked tokens may be active after the run, all together, before they count as undone: more than replicas need to learn of
/// a revocation on a busy machine.
const SPREAD: Duration = Duration::from_secs(20);

/// From the first fault until everything is repaired, since the start of the traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultTimes {
    pub(crate) begun: Duration,
    pub(crate) repaired: Duration,
}

/// The figures of a run.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) name: String,
    /// From the fault until the servers were repaired.
    pub(crate) fault: Duration,
    /// The longest times without one success.
    pub(crate) without_refresh: Duration,
    pub(crate) without_login: Duration,
    pub(crate) without_revocation: Duration,
    /// Sessions from before the fault that the service ended.
    pub(crate) ended: Vec<(Duration, String)>,
    pub(crate) kept: usize,
    /// Sessions that were created during the fault and are gone; the others are counted as [`Judgement::ended`].
    pub(crate) lost_logins: usize,
    /// Rotations that a store had lost and that were healed.
    pub(crate) healed: u64,
    pub(crate) revocations: usize,
    /// Sessions that live although their revocation was acknowledged: how, and when they were revoked.
    pub(crate) undone: Vec<(Duration, &'static str)>,
    pub(crate) seen_active: SeenActive,
    pub(crate) errors: Errors,
    /// The most lines of level ERROR in the log of one replica.
    pub(crate) error_lines: usize,
}

impl Judgement {
    /// Uses every session and every revoked token once more, at all replicas.
    pub(crate) async fn of(
        name: String,
        clients: &Clients,
        servers: &[Countersign],
        fault: FaultTimes,
        random: &mut Random,
    ) -> Self {
        let record = std::mem::take(&mut *clients.record.lock());
        let end = clients.now();
        let mut ended: Vec<(Duration, String)> = record.kept.iter().filter_map(|kept| kept.ended.clone()).collect();
        for session in record.kept.iter().filter(|kept| kept.ended.is_none()) {
            ended.extend(use_again(clients, session, random).await);
        }
        let mut lost_logins = 0;
        for session in &record.young {
            let Some(why) = use_again(clients, session, random).await else {
                continue;
            };
            let exposed = fault.begun.saturating_sub(MAY_BE_LOST)..=fault.repaired;
            if exposed.contains(&session.created) {
                lost_logins += 1;
            } else {
                ended.push(why);
            }
        }
        let mut undone = Vec::new();
        let spread_until = Instant::now() + SPREAD;
        for revoked in &record.revoked {
            undone.extend(still_lives(clients, revoked, spread_until, random).await);
        }
        let mut errors = record.errors.clone();
        for (name, count) in std::mem::take(&mut clients.record.lock().errors) {
            *errors.entry(name).or_default() += count;
        }
        Self {
            name,
            fault: fault.repaired.saturating_sub(fault.begun),
            without_refresh: longest_gap(&record.refreshes, end),
            without_login: longest_gap(&record.logins, end),
            without_revocation: longest_gap(&record.revocations, end),
            ended,
            kept: record.kept.len(),
            lost_logins,
            healed: servers.iter().map(fast_forwarded).sum(),
            revocations: record.revoked.len(),
            undone,
            seen_active: record.seen_active,
            errors,
            error_lines: servers.iter().map(error_lines).max().unwrap_or_default(),
        }
    }

    /// Prints the figures.
    #[expect(clippy::print_stdout, reason = "the figures are for people")]
    pub(crate) fn print(&self) {
        println!("{self}");
    }

    /// Asserts that no session from before the fault ended, that no acknowledged revocation is undone, and that no answer was
    /// wrong.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self) {
        self.print();
        assert!(self.ended.is_empty(), "honest sessions ended: {:?}\n{self}", self.ended);
        assert!(self.undone.is_empty(), "revocations undone: {:?}\n{self}", self.undone);
        assert_eq!(
            self.seen_active.dishonest, 0,
            "answers with an untrue revocations_as_of\n{self}"
        );
        let wrong = unexplained(&self.errors);
        assert!(wrong.is_empty(), "{self}");
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        write!(
            f,
            "{}: fault {}, without Refresh {}, Issue {}, Revoke {}; sessions ended {} of {}, logins lost {}, rotations healed {}; \
             revocations undone {} of {}, seen active {} (longest {:.2} s, dishonest {}); lines of ERROR {}; {:?}",
            self.name,
            seconds(self.fault),
            seconds(self.without_refresh),
            seconds(self.without_login),
            seconds(self.without_revocation),
            self.ended.len(),
            self.kept,
            self.lost_logins,
            self.healed,
            self.undone.len(),
            self.revocations,
            self.seen_active.answers,
            self.seen_active.longest.as_secs_f64(),
            self.seen_active.dishonest,
            self.error_lines,
            self.errors,
        )
    }
}

/// Refreshes a session; when and why it is over, if it is.
async fn use_again(clients: &Clients, session: &Session, random: &mut Random) -> Option<(Duration, String)> {
    let refreshed = clients.refresh(&session.tokens.refresh_token, random).await;
    refreshed.err().map(|why| (session.created, why))
}

/// Presents the tokens of a revoked session at each replica; which of them is still good, if one is.
async fn still_lives(
    clients: &Clients,
    revoked: &Revoked,
    spread_until: Instant,
    random: &mut Random,
) -> Option<(Duration, &'static str)> {
    for caller in clients.callers() {
        // Each replica answers at least once.
        loop {
            match caller.validate(&revoked.tokens.access_token).await {
                Ok(answer) if !answer.active => break,
                Ok(_) if Instant::now() > spread_until => return Some((revoked.acknowledged, "Validate")),
                _ => sleep(random.millis(50, 150)).await,
            }
        }
    }
    let refreshed = clients.refresh(&revoked.tokens.refresh_token, random).await;
    refreshed.is_ok().then_some((revoked.acknowledged, "Refresh"))
}

fn longest_gap(successes: &[Duration], end: Duration) -> Duration {
    let mut times = successes.to_vec();
    times.push(end);
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]));
    gaps.max().unwrap_or_default()
}

fn fast_forwarded(server: &Countersign) -> u64 {
    let name = "countersign_refresh_verdicts_total{verdict=\"fast_forwarded\"}";
    let metrics = get(server, "/metrics");
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_default()
}

fn error_lines(server: &Countersign) -> usize {
    server.log().lines().filter(|line| line.contains("ERROR")).count()
}

/// The lines of level WARN and ERROR in the logs of the replicas: why calls failed.
pub(crate) fn warnings(servers: &[Countersign]) -> String {
    let logs: Vec<String> = servers.iter().map(Countersign::log).collect();
    let lines = logs.iter().flat_map(|log| log.lines());
    let lines = lines.filter(|line| line.contains("WARN") || line.contains("ERROR"));
    lines.take(50).collect::<Vec<_>>().join("\n")
}

/// For a run that ends early: what was recorded so far must hold already.
pub(crate) fn has_begun(record: &Record) -> bool {
    record.logins.len() > 5 && record.revoked.len() > 3 && record.refreshes.len() > crate::traffic::SESSIONS
}
