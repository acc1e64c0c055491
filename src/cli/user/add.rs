//! `user add`.

use std::path::PathBuf;

use crate::account::{Principal, UserDraft};
use crate::cli::{Context, Failure, input, store};
use crate::grpc::convert;
use crate::model::user::ADMIN;
use crate::proto::CreateUserResponse;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The username.
    name: String,

    /// Give the user the role `admin`, which allows every `countersign:*` scope.
    #[arg(long)]
    admin: bool,

    /// A role; repeatable.
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,

    /// An e-mail address.
    #[arg(long, value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    email: String,

    /// A display name.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    display_name: String,

    /// Read the password from the first line of this file instead of a prompt or the standard input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let password = input::new_secret("password", args.password_file.as_deref())?;
    let mut roles = args.role;
    roles.extend(args.admin.then(|| ADMIN.to_owned()));
    let draft = UserDraft {
        username: args.name,
        email: args.email,
        display_name: args.display_name,
        roles,
        ..UserDraft::default()
    };
    let user = app
        .users
        .create(&Principal::owner(), &draft, password, store::deadline(&app))
        .await?;
    context.out.message(&CreateUserResponse {
        user: Some(convert::user(user)),
    })
}
