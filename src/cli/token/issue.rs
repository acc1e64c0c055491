//! `token issue`: logs in.

use std::path::PathBuf;

use super::connect::{Caller, call};
use crate::cli::{Context, Failure, input};
use crate::proto::issue_request::Credential;
use crate::proto::{ClientSecretCredential, IssueRequest, PasswordCredential, SessionContext};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Log in this user with their password; without it, log in the client with its secret.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// The client [default: the client `default`].
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    client: String,

    /// A scope to request; repeatable.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,

    /// An audience to request; repeatable.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,

    /// Read the password, or the client's secret, from the first line of this file instead of a prompt or the standard
    /// input.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, caller: &Caller, args: Args) -> Result<(), Failure> {
    let file = args.password_file.as_deref();
    let credential = if let Some(username) = args.user {
        let password = input::secret("password", file)?.expose().to_owned();
        Credential::Password(PasswordCredential { username, password })
    } else {
        let secret = input::secret("client secret", file)?.expose().to_owned();
        Credential::ClientSecret(ClientSecretCredential { secret })
    };
    let request = IssueRequest {
        client_id: args.client,
        credential: Some(credential),
        audience: args.audience,
        scope: args.scope,
        context: Some(SessionContext {
            user_agent: concat!("countersign/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..SessionContext::default()
        }),
    };
    let response = caller.connect().await?.issue(call(request)).await?;
    context.out.message(response.get_ref())
}
