//! `audit`: lists audit events, directly on the store.

use std::time::Duration;

use clap::Subcommand;

use super::{Context, Failure, store};
use crate::account::Principal;
use crate::account::audit::AuditRequest;
use crate::account::users::UserKey;
use crate::app::App;
use crate::clock::{Clock, UnixMillis};
use crate::config::parse_duration;
use crate::grpc::convert;
use crate::model::{AuditEvent, ErrorKind, UserId, Username};
use crate::proto::ListAuditEventsResponse;

/// How often `tail` asks for new events.
const TAIL_INTERVAL: Duration = Duration::from_secs(1);
const PAGE_SIZE: usize = 1000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the newest events, and then every new event.
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// How many of the newest events to print first.
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        lines: usize,
    },
    /// List events, newest first.
    Query {
        #[command(flatten)]
        filter: Filter,
        /// Only events from this time on: a time (RFC 3339), or how long ago (for instance 24h).
        #[arg(long, value_name = "WHEN", value_parser = TimeArg::parse)]
        since: Option<TimeArg>,
        /// Only events before this time: a time (RFC 3339), or how long ago.
        #[arg(long, value_name = "WHEN", value_parser = TimeArg::parse)]
        until: Option<TimeArg>,
        /// The most events to list.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
}

#[derive(clap::Args)]
pub(super) struct Filter {
    /// Only events about this user, client, session or key: its id, or the name of a user, also one that does not exist.
    #[arg(long, value_name = "ID|NAME", default_value = "", hide_default_value = true)]
    subject: String,

    /// Only events of this type, for instance token.refresh.reused; with `*` at the end, of all types with this start: user.*
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
}

/// A time on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) enum TimeArg {
    At(UnixMillis),
    Ago(Duration),
}

impl TimeArg {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let timestamp: prost_types::Timestamp = text
            .parse()
            .map_err(|_| "must be like 2027-01-31T12:00:00Z, or 24h for a day ago".to_owned())?;
        Ok(Self::At(UnixMillis(
            timestamp
                .seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(timestamp.nanos) / 1_000_000),
        )))
    }

    fn resolve(self, clock: &dyn Clock) -> UnixMillis {
        match self {
            Self::At(time) => time,
            Self::Ago(ago) => clock.now().minus(ago),
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let app = &*app;
    match command {
        Command::Query {
            filter,
            since,
            until,
            limit,
        } => {
            let mut requests = filter.requests(app).await?;
            for request in &mut requests {
                request.since = since.map(|time| time.resolve(app.stores.clock.as_ref()));
                request.until = until.map(|time| time.resolve(app.stores.clock.as_ref()));
            }
            let events = newest(app, &requests, limit, |_| true).await?;
            let response = ListAuditEventsResponse {
                events: events.into_iter().map(convert::audit_event).collect(),
                next_page_token: String::new(),
            };
            let columns = [
                "time",
                "type",
                "outcome",
                "actor",
                "subject",
                "client_id",
                "ip_address",
                "details",
            ];
            context.out.list(&response, "events", &columns)
        }
        Command::Tail { filter, lines } => tail(context, app, &filter.requests(app).await?, lines).await,
    }
}

async fn tail(context: &Context, app: &App, requests: &[AuditRequest], lines: usize) -> Result<(), Failure> {
    let mut newest_printed = None;
    let mut events = newest(app, requests, lines, |_| true).await?;
    loop {
        for event in events.into_iter().rev() {
            newest_printed = newest_printed.max(Some(event.id));
            context.out.item(&convert::audit_event(event))?;
        }
        tokio::time::sleep(TAIL_INTERVAL).await;
        events = newest(app, requests, usize::MAX, |event| Some(event.id) > newest_printed).await?;
    }
}

/// The newest events of all requests together, newest first: at most `limit`, of each request up to the first event that is
/// not `wanted`.
async fn newest(
    app: &App,
    requests: &[AuditRequest],
    limit: usize,
    wanted: impl Fn(&AuditEvent) -> bool,
) -> Result<Vec<AuditEvent>, Failure> {
    let mut events = Vec::new();
    for request in requests {
        events.extend(newest_of(app, request, limit, &wanted).await?);
    }
    events.sort_by_key(|event| std::cmp::Reverse(event.id));
    events.truncate(limit);
    Ok(events)
}

async fn newest_of(
    app: &App,
    request: &AuditRequest,
    limit: usize,
    wanted: impl Fn(&AuditEvent) -> bool,
) -> Result<Vec<AuditEvent>, Failure> {
    let mut events = Vec::new();
    let mut request = request.clone();
    while events.len() < limit {
        let size = (limit - events.len()).min(PAGE_SIZE);
        request.page_size = i32::try_from(size).unwrap_or(i32::MAX);
        let page = app.trail.list(&Principal::owner(), request.clone()).await?;
        let page_len = page.items.len();
        let before = events.len();
        events.extend(page.items.into_iter().take_while(&wanted));
        let all_wanted = events.len() - before == page_len;
        if !all_wanted || page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(events)
}

impl Filter {
    /// One request for each form of the subject in the trail.
    async fn requests(self, app: &App) -> Result<Vec<AuditRequest>, Failure> {
        let subjects = subjects(app, &self.subject).await?;
        let request = |subject| AuditRequest {
            subject,
            kind: self.kind.clone(),
            ..AuditRequest::default()
        };
        Ok(subjects.into_iter().map(request).collect())
    }
}

/// The subjects of events about `subject`. A text that may be the name of a user also stands for that user's id, and for the
/// pseudonym of attempts with that name at which no user was looked up or found. The text itself comes first: it may be the id of
/// a client, and earlier versions kept failed logins under the name.
async fn subjects(app: &App, subject: &str) -> Result<Vec<String>, Failure> {
    let mut subjects = vec![subject.to_owned()];
    let Ok(name) = Username::parse(subject, "subject") else {
        return Ok(subjects);
    };
    if UserId::parse(subject, "subject").is_ok() {
        return Ok(subjects);
    }
    match app.users.get(&Principal::owner(), UserKey::Name(name.as_str())).await {
        Ok(user) => subjects.push(user.id.to_string()),
        Err(error) if error.kind == ErrorKind::UserNotFound => {}
        Err(error) => return Err(error.into()),
    }
    subjects.push(app.attempts.pseudonym(name.as_str()));
    if name.as_str() != subject {
        subjects.push(app.attempts.pseudonym(subject));
    }
    Ok(subjects)
}
