//! `doctor`: checks whether the service could run with this configuration and these stores, or checks a running server. It
//! changes nothing.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::output::print;
use super::remote::{DEFAULT_SERVER, ca_file_variable, server_variable};
use super::text::printable;
use super::{Context, Failure};
use crate::app::doctor::{self, State};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Check this running server as its callers meet it, instead of the configuration: `http://HOST:PORT`, `https://HOST:PORT` or
    /// `unix:PATH`. Without a URL: `COUNTERSIGN_SERVER`, else <http://127.0.0.1:50051>. `COUNTERSIGN_SERVER` alone has the same
    /// effect. The side port is looked for on the same host, at the port of `server.http_listen`.
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = "")]
    server: Option<String>,

    /// PEM file with the authorities that sign the certificate of --server, in place of those of the system. The environment
    /// variable `COUNTERSIGN_CA_FILE` sets it too.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let url = match args.server {
        Some(url) if !url.is_empty() => Some(url),
        Some(_) => Some(server_variable(context).unwrap_or_else(|| DEFAULT_SERVER.to_owned())),
        None => server_variable(context),
    };
    let findings = match url {
        Some(url) => {
            let target = doctor::ServerTarget {
                url,
                ca_file: args.ca_file.or_else(|| ca_file_variable(context).map(PathBuf::from)),
                side_port: config.server.http_listen.port(),
            };
            doctor::examine_server(&target).await
        }
        None => doctor::examine(&config).await,
    };
    let worst = findings.iter().map(|finding| finding.state).max();
    let code = worst.map_or(0, State::exit_code);
    if context.out.is_json() {
        let checks: Vec<_> = findings
            .iter()
            .map(|finding| json!({"check": finding.about, "state": name(finding.state), "message": finding.message}))
            .collect();
        context.out.value(&json!({"healthy": code == 0, "checks": checks}))?;
    } else {
        let mut text = String::new();
        for finding in &findings {
            // Writing to a `String` cannot fail.
            let _ = writeln!(
                text,
                "{:<13}  {:<13}  {}",
                name(finding.state).to_lowercase(),
                finding.about,
                printable(&finding.message)
            );
        }
        print(&text)?;
    }
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::exit_code(code))
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::Good => "OK",
        State::Doubtful => "WARNING",
        State::Bad => "FAILED",
        State::Unreachable => "UNREACHABLE",
        State::Misconfigured => "MISCONFIGURED",
    }
}
