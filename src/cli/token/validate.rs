//! `token validate`: is it good?

use super::TokenFile;
use super::connect::{Caller, call};
use crate::cli::{Context, Failure};
use crate::proto::{Consistency, ValidateRequest};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    token: TokenFile,

    /// The audience that it must be for.
    #[arg(long, value_name = "AUDIENCE", default_value = "", hide_default_value = true)]
    audience: String,

    /// A scope that it must carry; may be given again.
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,

    /// Ask the database, not only the memory of the server.
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
    let answer = caller.connect().await?.validate(call(request)).await?;
    context.out.message(answer.get_ref())?;
    // The answer says why; the exit code is for scripts.
    if answer.get_ref().active {
        Ok(())
    } else {
        Err(Failure::silent())
    }
}
