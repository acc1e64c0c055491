//! `session`: lists and revokes sessions, directly on the store.

use clap::Subcommand;

use super::input::Confirm;
use super::{Context, Failure, store};
use crate::account::Principal;
use crate::app::App;
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
    /// Revoke all sessions and tokens of one user, of one client, or all of them.
    RevokeAll {
        #[command(flatten)]
        target: TargetOptions,
        #[command(flatten)]
        confirm: Confirm,
        #[command(flatten)]
        reason: Reason,
    },
}

impl Command {
    pub(super) const fn changes_store(&self) -> bool {
        match self {
            Self::Revoke { .. } | Self::RevokeAll { .. } => true,
            Self::List { .. } => false,
        }
    }
}

/// The sessions that `revoke-all` ends. One option is required: an empty shell variable must not select everything.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct TargetOptions {
    /// Those of this user.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Those of this client.
    #[arg(long, value_name = "ID")]
    client: Option<String>,
    /// Those of all users and clients.
    #[arg(long)]
    all: bool,
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
            target,
            confirm,
            reason,
        } => (revoke_all_target(context, &app, target, &confirm).await?, reason),
    };
    let request = RevokeRequest {
        target,
        reason: reason.reason,
    };
    let sessions_revoked = app.revoker.revoke(&store::owner(), request).await?;
    context.out.note("revoked; running servers apply it within a second");
    context.out.message(&RevokeResponse { sessions_revoked })
}

/// Looks the target up and asks for confirmation.
async fn revoke_all_target(
    context: &Context,
    app: &App,
    options: TargetOptions,
    confirm: &Confirm,
) -> Result<RevokeTarget, Failure> {
    let (target, whose) = match options {
        TargetOptions { user: Some(name), .. } => {
            let id = store::user(app, &name).await?.id.to_string();
            let keep = String::new();
            (RevokeTarget::User { id, keep }, format!("the user {name}"))
        }
        TargetOptions { client: Some(id), .. } => {
            // An unknown client must not look like a success.
            app.clients.get(&Principal::owner(), &id).await?;
            let whose = format!("the client {id}");
            (RevokeTarget::Client(id), whose)
        }
        TargetOptions { .. } => (RevokeTarget::Everything, "ALL users and clients".to_owned()),
    };
    confirm.ask(context, &format!("end all sessions and tokens of {whose}"))?;
    Ok(target)
}
