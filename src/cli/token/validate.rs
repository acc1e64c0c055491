//! `token validate`: checks whether an access token is active.

use super::TokenFile;
use super::connect::{Caller, call};
use crate::cli::{Context, Failure};
use crate::proto::{Consistency, ValidateRequest};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    token: TokenFile,

    /// The audience that the token must have.
    #[arg(long, value_name = "AUDIENCE", default_value = "", hide_default_value = true)]
    audience: String,

    /// A scope that the token must have; repeatable.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,

    /// Check the database too, not only the memory of the server.
    #[arg(long)]
    strong: bool,
}

pub(super) async fn run(context: &Context, caller: &Caller, args: Args) -> Result<(), Failure> {
    let consistency = if args.strong {
        Consistency::Strong
    } else {
        Consistency::Unspecified
    };
    let request = ValidateRequest {
        access_token: args.token.read()?.expose().to_owned(),
        audience: args.audience,
        required_scopes: args.scope,
        consistency: consistency.into(),
    };
    let response = caller.connect().await?.validate(call(request)).await?;
    context.out.message(response.get_ref())?;
    // The response contains the reason; the exit code is for scripts.
    if response.get_ref().active {
        Ok(())
    } else {
        Err(Failure::silent())
    }
}
