//! `config`: prints the options, checks the configuration, and shows the effective one.

use clap::Subcommand;
use serde_json::json;

use super::output::print;
use super::{Context, Failure};
use crate::config::DEFAULTS;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print every option with its default and the reason for it, as a start for a configuration file.
    Default,
    /// Check the configuration as `serve` would.
    Check,
    /// Print the effective configuration and the source of each value, without secrets.
    Show,
}

pub(super) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let out = &context.out;
    match command {
        Command::Default => print(DEFAULTS),
        Command::Check => {
            let config = context.config(Vec::new())?;
            config.check_exposure()?;
            let store = config.storage.describe();
            if out.is_json() {
                out.value(&json!({"ok": true, "mode": config.mode(), "store": store}))
            } else {
                print(&format!("the configuration is valid; it names {store}\n"))
            }
        }
        Command::Show => {
            let config = context.config(Vec::new())?;
            if out.is_json() {
                let value = serde_json::to_value(&config);
                return out.value(&value.map_err(|error| Failure::other(error.to_string()))?);
            }
            print(&config.show())
        }
    }
}
