//! `session`: lists and revokes sessions, directly on the store.

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
        /// The username.
        user: String,
    },
    /// Revoke one session and its tokens.
    Revoke {
        /// The session id, as `session list` shows it.
        id: String,
        #[command(flatten)]
        reason: Reason,
    },
    /// Revoke all sessions and tokens, or all of one user or of one client.
    RevokeAll {
        /// Only those of this user.
        #[arg(long, value_name = "NAME", conflicts_with = "client")]
        user: Option<String>,
        /// Only those of this client.
        #[arg(long, value_name = "ID")]
        client: Option<String>,
        #[command(flatten)]
        reason: Reason,
    },
}

#[derive(clap::Args)]
pub(super) struct Reason {
    /// The reason, for the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let (target, reason) = match command {
        Command::List { user } => {
            let id = store::user(&app, &user).await?.id.to_string();
            let sessions = app.user_sessions.list(&Principal::owner(), &id).await?;
            let response = ListSessionsResponse {
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
            return context.out.list(&response, "sessions", &columns);
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
    let sessions_revoked = app.revoker.revoke(&store::owner(), request).await?;
    context.out.note("revoked; running servers apply it within a second");
    context.out.message(&RevokeResponse { sessions_revoked })
}
