//! `client rotate-secret`.

use std::time::Duration;

use crate::account::Principal;
use crate::cli::{Context, Failure, store};
use crate::config::parse_duration;
use crate::proto::RotateClientSecretResponse;
use crate::proto::convert::time::timestamp;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The client id.
    id: String,

    /// How long the old secret stays valid; 0 ends it at once and revokes the client's sessions and tokens.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "24h")]
    overlap: Duration,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let app = store::open(context).await?;
    let rotated = app
        .clients
        .rotate_secret(&Principal::owner(), &args.id, Some(args.overlap))
        .await?;
    context.out.note("store the secret now: it cannot be shown again");
    context.out.message(&RotateClientSecretResponse {
        client_secret: rotated.secret.expose().to_owned(),
        old_expire_time: Some(timestamp(rotated.old_expires)),
    })
}
