//! `agent`: validates tokens from memory for services on the same machine, in any language.

use super::{Context, Failure, remote};
use crate::app;
use crate::config::{Config, Flag};
use crate::shutdown::{Stop, on_signals};
use crate::telemetry::Telemetry;

#[derive(clap::Args)]
pub(super) struct Args {
    /// The URL of the Countersign to follow [default: `agent.upstream`, else `COUNTERSIGN_SERVER`].
    #[arg(long, visible_alias = "server", value_name = "URL")]
    upstream: Option<String>,

    /// PEM file with the authorities to trust there, or with the certificate of the server itself [default: `agent.ca_file`, else
    /// `COUNTERSIGN_CA_FILE`, else those of the system].
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,

    /// Where the agent listens: a loopback address, or `unix:PATH` for a socket that only its owner may use.
    #[arg(long, value_name = "ADDR|unix:PATH")]
    listen: Option<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut flags = Vec::new();
    for (name, key, value) in [
        ("--upstream", "agent.upstream", args.upstream),
        ("--ca-file", "agent.ca_file", args.ca_file),
        ("--listen", "agent.listen", args.listen),
    ] {
        flags.extend(value.map(|value| Flag { name, key, value }));
    }
    let mut config = context.config_of_service(flags.clone())?;
    // Variables that are shared with other commands count least.
    let shared = [
        ("COUNTERSIGN_SERVER", "agent.upstream", remote::server_variable(context)),
        (
            "COUNTERSIGN_CA_FILE",
            "agent.ca_file",
            remote::ca_file_variable(context),
        ),
    ];
    for (name, key, value) in shared {
        // The authorities are of no use without TLS.
        let upstream = config.agent.upstream.as_deref().unwrap_or_default();
        let is_wanted = key == "agent.upstream" || upstream.starts_with("https://");
        if let Some(value) = value
            && is_wanted
            && !config.is_set(key)
        {
            flags.push(Flag { name, key, value });
            config = context.config_of_service(flags.clone())?;
        }
    }
    let telemetry = Telemetry::init(&config.telemetry)?;
    super::memory::disable_core_dumps();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let result = runtime.block_on(run_agent(&config, &telemetry));
    if result.is_ok() {
        tracing::info!("stopped");
    }
    runtime.shutdown_background();
    result.map_err(|failure| failure.in_log(config.telemetry.log_format))
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
