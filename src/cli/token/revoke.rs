//! `token revoke`: logs out.

use super::TokenFile;
use super::connect::{Caller, call};
use crate::cli::{Context, Failure};
use crate::proto::RevokeRequest;
use crate::proto::revoke_request::Target;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    token: TokenFile,

    /// The reason, for the audit trail.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
}

pub(super) async fn run(context: &Context, caller: &Caller, args: Args) -> Result<(), Failure> {
    let request = RevokeRequest {
        target: Some(Target::Token(args.token.read()?.expose().to_owned())),
        reason: args.reason,
        ..RevokeRequest::default()
    };
    let response = caller.connect().await?.revoke(call(request)).await?;
    context.out.message(response.get_ref())
}
