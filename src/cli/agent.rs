//! `agent`: validates tokens from memory for services on the same machine, in any language.

use super::{Context, Failure};
use crate::app;
use crate::config::{Config, Flag};
use crate::shutdown::{Stop, on_signals};
use crate::telemetry::Telemetry;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The URL of the Countersign to follow.
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,

    /// Where the agent listens: a loopback address, or `unix:PATH` for a socket that only its owner may use.
    #[arg(long, value_name = "ADDR|unix:PATH")]
    listen: Option<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut flags = Vec::new();
    for (name, key, value) in [
        ("--upstream", "agent.upstream", args.upstream),
        ("--listen", "agent.listen", args.listen),
    ] {
        flags.extend(value.map(|value| Flag { name, key, value }));
    }
    let config = context.config(flags)?;
    let telemetry = Telemetry::init(&config.telemetry)?;
    super::memory::disable_core_dumps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let result = runtime.block_on(run_agent(&config, &telemetry));
    runtime.shutdown_background();
    result
}

async fn run_agent(config: &Config, telemetry: &Telemetry) -> Result<(), Failure> {
    let stop = Stop::new();
    let signals = tokio::spawn(on_signals(stop.clone()));
    let result = app::agent(config, telemetry.metrics.clone(), stop, |listen| {
        // A closed standard output must not stop the agent.
        drop(super::output::print(&format!(
            "Countersign's agent answers on {listen}\n"
        )));
    })
    .await;
    signals.abort();
    Ok(result?)
}
