//! `health`: asks a running server or agent whether it serves.

use std::path::PathBuf;

use serde_json::json;

use super::{Context, Failure};
use crate::app::{HealthTarget, health};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The server or agent to ask: http://HOST:PORT, https://HOST:PORT or unix:PATH. Without it, the one at `server.listen` of
    /// the configuration.
    /// The environment variable `COUNTERSIGN_SERVER` sets it too.
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// PEM file with the authorities that sign the certificate of --server, in place of those of the system. The environment
    /// variable `COUNTERSIGN_CA_FILE` sets it too.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// The service to ask for, as in `grpc.health.v1`: for instance `store.sessions`. Without it, the whole server.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let variable = |name| context.variable(name).map(str::to_owned);
    let target = match args.server.or_else(|| variable("COUNTERSIGN_SERVER")) {
        Some(url) => HealthTarget::Url {
            url,
            ca: args
                .ca_file
                .or_else(|| variable("COUNTERSIGN_CA_FILE").map(PathBuf::from)),
        },
        None => HealthTarget::of(&context.config(Vec::new())?.server),
    };
    let report = health(&target, &args.service).await?;
    context.out.value(&json!({
        "status": report.status,
        "server": report.server,
        "notServing": report.failing,
    }))?;
    if report.serves() {
        Ok(())
    } else {
        Err(Failure::silent())
    }
}
