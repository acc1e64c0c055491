//! `user`: manages users, directly on the store.

mod add;
mod import;
mod list;
mod passwd;
mod update;

use clap::Subcommand;

pub use import::{FileFormat, NextRow, Rows};

use super::input::Confirm;
use super::{Context, Failure, store};
use crate::account::Principal;
use crate::grpc::convert;
use crate::proto;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Create a user; with `--admin`, an administrator.
    Add(add::Args),
    /// Change a user's name, e-mail address, roles or attributes.
    Update(update::Args),
    /// List users.
    List(list::Args),
    /// Show one user.
    Show(Name),
    /// Set a user's password, and revoke their sessions.
    Passwd(passwd::Args),
    /// Stop a user from logging in, and revoke their sessions.
    Disable(Name),
    /// Allow a disabled user to log in again.
    Enable(Name),
    /// Delete a user, and revoke their sessions; the audit trail stays.
    Delete {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Import users of another system with their password hashes from a file.
    Import(import::Args),
}

impl Command {
    pub(super) const fn changes_store(&self) -> bool {
        match self {
            Self::Add(_)
            | Self::Update(_)
            | Self::Passwd(_)
            | Self::Disable(_)
            | Self::Enable(_)
            | Self::Delete { .. }
            | Self::Import(_) => true,
            Self::List(_) | Self::Show(_) => false,
        }
    }
}

/// The user of a command.
#[derive(clap::Args)]
pub(super) struct Name {
    /// The username.
    name: String,
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Add(args) => add::run(context, args).await,
        Command::Update(args) => update::run(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Show(Name { name }) => show(context, &name).await,
        Command::Passwd(args) => passwd::run(context, args).await,
        Command::Disable(Name { name }) => disable(context, &name).await,
        Command::Enable(Name { name }) => enable(context, &name).await,
        Command::Delete {
            name: Name { name },
            confirm,
        } => delete(context, &name, &confirm).await,
        Command::Import(args) => import::run(context, args).await,
    }
}

async fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let user = store::user(&app, name).await?;
    context.out.message(&proto::GetUserResponse {
        user: Some(convert::user(user)),
    })
}

async fn disable(context: &Context, name: &str) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let id = store::user(&app, name).await?.id.to_string();
    let user = app.users.set_disabled(&Principal::owner(), &id, true).await?;
    context.out.message(&proto::DisableUserResponse {
        user: Some(convert::user(user)),
    })
}

async fn enable(context: &Context, name: &str) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let id = store::user(&app, name).await?.id.to_string();
    let user = app.users.set_disabled(&Principal::owner(), &id, false).await?;
    context.out.message(&proto::EnableUserResponse {
        user: Some(convert::user(user)),
    })
}

async fn delete(context: &Context, name: &str, confirm: &Confirm) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let id = store::user(&app, name).await?.id.to_string();
    confirm.ask(context, &format!("delete the user {name}"))?;
    app.users.delete(&Principal::owner(), &id).await?;
    context
        .out
        .note(&format!("{name} is deleted, and their sessions are revoked"));
    context.out.message(&proto::DeleteUserResponse {})
}
