//! `audit`: the trail of who did what, on the store itself.

use std::time::Duration;

use clap::Subcommand;

use super::{Context, Failure, store};
use crate::account::Principal;
use crate::account::audit::AuditRequest;
use crate::app::App;
use crate::clock::{Clock, UnixMillis};
use crate::config::parse_duration;
use crate::grpc::convert;
use crate::model::AuditEvent;
use crate::proto::ListAuditEventsResponse;

/// How often `tail` looks for what is new.
const INTERVAL: Duration = Duration::from_secs(1);
const PAGE: usize = 1000;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print the newest events, and then every event as it happens.
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// How many events to begin with.
        #[arg(long, value_name = "COUNT", default_value_t = 10)]
        lines: usize,
    },
    /// List events, newest first.
    Query {
        #[command(flatten)]
        filter: Filter,
        /// Not before this moment (RFC 3339), or this long ago (for instance 24h).
        #[arg(long, value_name = "WHEN", value_parser = When::parse)]
        since: Option<When>,
        /// Before this moment, or this long ago.
        #[arg(long, value_name = "WHEN", value_parser = When::parse)]
        until: Option<When>,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
}

#[derive(clap::Args)]
pub(super) struct Filter {
    /// Only events on this user, client, session or key, by id.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    subject: String,

    /// Only events of this type, for instance token.refresh.reused, or of every type that begins so: user.*
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    kind: String,
}

/// A moment as people write it.
#[derive(Clone, Copy, Debug)]
pub(super) enum When {
    At(UnixMillis),
    Ago(Duration),
}

impl When {
    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(ago) = parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let moment: prost_types::Timestamp = text
            .parse()
            .map_err(|_| "must be like 2027-01-31T12:00:00Z, or 24h for a day ago".to_owned())?;
        Ok(Self::At(UnixMillis(
            moment
                .seconds
                .saturating_mul(1000)
                .saturating_add(i64::from(moment.nanos) / 1_000_000),
        )))
    }

    fn moment(self, clock: &dyn Clock) -> UnixMillis {
        match self {
            Self::At(moment) => moment,
            Self::Ago(ago) => clock.now().minus(ago),
        }
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let app = store::open(context).await?;
    match command {
        Command::Query {
            filter,
            since,
            until,
            limit,
        } => {
            let request = AuditRequest {
                since: since.map(|when| when.moment(app.clock.as_ref())),
                until: until.map(|when| when.moment(app.clock.as_ref())),
                ..filter.request()
            };
            let events = newest(&app, &request, limit, |_| true).await?;
            let answer = ListAuditEventsResponse {
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
            context.out.list(&answer, "events", &columns)
        }
        Command::Tail { filter, lines } => tail(context, &app, &filter.request(), lines).await,
    }
}

async fn tail(context: &Context, app: &App, request: &AuditRequest, lines: usize) -> Result<(), Failure> {
    let mut seen = None;
    let mut events = newest(app, request, lines, |_| true).await?;
    loop {
        for event in events.into_iter().rev() {
            seen = seen.max(Some(event.id));
            context.out.item(&convert::audit_event(event))?;
        }
        tokio::time::sleep(INTERVAL).await;
        events = newest(app, request, usize::MAX, |event| Some(event.id) > seen).await?;
    }
}

/// The newest events, newest first: at most `limit`, and none from the first on that is not wanted.
async fn newest(
    app: &App,
    request: &AuditRequest,
    limit: usize,
    wanted: impl Fn(&AuditEvent) -> bool,
) -> Result<Vec<AuditEvent>, Failure> {
    let mut events = Vec::new();
    let mut request = request.clone();
    while events.len() < limit {
        let size = (limit - events.len()).min(PAGE);
        request.page_size = i32::try_from(size).unwrap_or(i32::MAX);
        let page = app.trail.list(&Principal::owner(), request.clone()).await?;
        let offered = page.items.len();
        let kept: Vec<_> = page.items.into_iter().take_while(&wanted).collect();
        let all = kept.len() == offered;
        events.extend(kept);
        if !all || page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    Ok(events)
}

impl Filter {
    fn request(self) -> AuditRequest {
        AuditRequest {
            subject: self.subject,
            kind: self.kind,
            ..AuditRequest::default()
        }
    }
}
