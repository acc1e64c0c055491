//! `session`: who is logged in, and ending that, on the store itself.

use clap::Subcommand;

use super::{Context, Failure, store};
use crate::account::Principal;
use crate::grpc::convert;
use crate::proto::{ListSessionsResponse, RevokeResponse};
use crate::token::{RevokeRequest, RevokeTarget};

#[derive(Subcommand)]
pub(super) enum Command {
    /// List a user's live sessions, oldest first.
    List {
        /// The name they log in with.
        user: String,
    },
    /// End one session with all its tokens.
    Revoke {
        /// Its id, as `session list` shows it.
        id: String,
        #[command(flatten)]
        reason: Reason,
    },
    /// End every session and every token that there is; or those of one user, or at one client.
    RevokeAll {
        /// Only those of this user.
        #[arg(long, value_name = "NAME", conflicts_with = "client")]
        user: Option<String>,
        /// Only those at this client.
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        #[command(flatten)]
        reason: Reason,
    },
}

#[derive(clap::Args)]
pub(super) struct Reason {
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let (target, reason) = match command {
        Command::List { user } => {
            let id = store::user(&app, &user).await?.id.to_string();
            let sessions = app.live.list(&Principal::owner(), &id).await?;
            let answer = ListSessionsResponse {
                sessions: sessions.into_iter().map(convert::session).collect(),
            };
            let columns = [
                "session_id",
                "client_id",
                "create_time",
                "refresh_time",
                "expire_time",
                "context.device_name",
                "context.ip_address",
            ];
            return context.out.list(&answer, "sessions", &columns);
        }
        Command::Revoke { id, reason } => (RevokeTarget::Session(id), reason),
        Command::RevokeAll {
            user: Some(name),
            reason,
            ..
        } => {
            let id = store::user(&app, &name).await?.id.to_string();
            (
                RevokeTarget::User {
                    id,
                    keep: String::new(),
                },
                reason,
            )
        }
        Command::RevokeAll {
            client: Some(id),
            reason,
            ..
        } => (RevokeTarget::Client(id), reason),
        Command::RevokeAll { reason, .. } => (RevokeTarget::Everything, reason),
    };
    let request = RevokeRequest {
        target,
        reason: reason.reason,
    };
    let sessions_revoked = app.tokens.revoke(&store::owner(), request).await?;
    context
        .out
        .note("what was asked for is revoked; servers that run know within a second");
    context.out.message(&RevokeResponse { sessions_revoked })
}
