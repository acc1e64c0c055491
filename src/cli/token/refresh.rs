//! `token refresh`: exchanges a refresh token for new tokens.

use super::TokenFile;
use super::connect::{Caller, call};
use crate::cli::{Context, Failure};
use crate::proto::RefreshRequest;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    token: TokenFile,

    /// A scope to narrow the new access token to; repeatable.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,

    /// An audience to narrow the new access token to; repeatable.
    #[arg(long, value_name = "AUDIENCE")]
    audience: Vec<String>,

    /// The id of this attempt. With the same id, a retry is not mistaken for a stolen token.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    attempt_id: String,
}

pub(super) async fn run(context: &Context, caller: &Caller, args: Args) -> Result<(), Failure> {
    let request = RefreshRequest {
        refresh_token: args.token.read()?.expose().to_owned(),
        audience: args.audience,
        scope: args.scope,
        attempt_id: args.attempt_id,
        context: None,
    };
    let response = caller.connect().await?.refresh(call(request)).await?;
    context.out.message(response.get_ref())
}
