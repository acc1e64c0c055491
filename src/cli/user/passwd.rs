//! `user passwd`.

use std::path::PathBuf;

use crate::account::Principal;
use crate::cli::{Context, Failure, input, store};
use crate::proto::SetPasswordResponse;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The username.
    name: String,

    /// Read the new password from the first line of this file instead of a prompt or the standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let id = store::user(&app, &args.name).await?.id.to_string();
    let password = input::new_secret("new password", args.password_file.as_deref())?;
    app.users
        .set_password(&Principal::owner(), &id, password, store::deadline(&app))
        .await?;
    context.out.note(&format!(
        "the password of {} is set, and their sessions are revoked",
        args.name
    ));
    context.out.message(&SetPasswordResponse {})
}
