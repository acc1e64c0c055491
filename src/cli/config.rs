//! `config`: what can be set, whether what is set is right, and what is in force.

use clap::Subcommand;
use serde_json::json;

use super::output::print;
use super::{Context, Failure};
use crate::config::DEFAULTS;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print every option with its default and the reason for it: the start of a configuration file.
    Default,
    /// Read the configuration as `serve` would, and say whether it is right.
    Check,
    /// Print the configuration that is in force and where each value comes from; secrets are left out.
    Show,
}

pub(super) fn run(context: &Context, command: &Command) -> Result<(), Failure> {
    let out = &context.out;
    match command {
        Command::Default => print(DEFAULTS),
        Command::Check => {
            context.config(Vec::new())?.check_exposure()?;
            if out.is_json() {
                out.value(&json!({"ok": true}))
            } else {
                print("the configuration is right\n")
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
