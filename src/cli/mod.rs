//! The command line: one file a subcommand.
//!
//! What a command prints is the response of the RPC that does the same, as text for people or as proto3 JSON. Errors
//! are one line on the standard error and say what to do next. Secrets are never arguments: a process list shows those.

mod agent;
mod audit;
mod client;
mod config;
mod describe;
mod doctor;
mod failure;
mod input;
mod json;
mod key;
mod memory;
mod migrate;
mod output;
mod serve;
mod session;
mod store;
mod text;
mod token;
mod user;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, Flag, Layers};
use failure::{Failure, USAGE};
use output::{Format, Out};

/// A token service over gRPC: logs people in, keeps them logged in, logs them out, and tells good tokens from bad.
#[derive(Parser)]
#[command(name = "countersign", version, max_term_width = 100, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Globals {
    /// Configuration file (TOML).
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Folder of the embedded store.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// What the answer looks like.
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service: embedded on one folder unless the configuration names a database.
    Serve(serve::Args),
    /// Bring the stores' schema up to date; `serve` does it too.
    Migrate,
    /// People, on the store itself.
    #[command(subcommand)]
    User(user::Command),
    /// The applications that get tokens, on the store itself.
    #[command(subcommand)]
    Client(client::Command),
    /// Who is logged in, on the store itself.
    #[command(subcommand)]
    Session(session::Command),
    /// The keys that sign tokens, on the store itself.
    #[command(subcommand)]
    Key(key::Command),
    /// The trail of who did what, on the store itself.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Ask a running server for tokens, and about them.
    Token(token::Args),
    /// Validate tokens beside a service, from memory.
    Agent(agent::Args),
    /// The configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Look whether this configuration and these stores would serve; changes nothing.
    Doctor,
    /// Print what makes a shell complete these commands.
    Completions(describe::Completions),
    /// Print the manual page, or that of one command.
    Man(describe::Man),
}

/// What every command has.
struct Context {
    globals: Globals,
    environment: Vec<(OsString, OsString)>,
    out: Out,
}

impl Context {
    /// The configuration, with what the flags of a command set.
    fn config(&self, mut flags: Vec<Flag>) -> Result<Config, Failure> {
        if let Some(dir) = &self.globals.data_dir {
            let value = dir.to_str().ok_or_else(|| Failure::usage("--data-dir must be UTF-8"))?;
            flags.push(Flag {
                name: "--data-dir",
                key: "storage.data_dir",
                value: value.to_owned(),
            });
        }
        let environment = self.environment.clone();
        let layers = Layers {
            file: self.globals.config.as_deref(),
            environment,
            flags,
        };
        Ok(Config::load(&layers)?)
    }

    /// A variable of the environment that is no configuration.
    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found
            .and_then(|(_, value)| value.to_str())
            .filter(|value| !value.is_empty())
    }
}

/// Runs a command that waits for others.
fn wait<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let done = runtime.block_on(work);
    // What still runs in the background is not worth waiting for.
    runtime.shutdown_background();
    done
}

/// Runs the command that `args` (with the program's name first) ask for. The environment is read here, once.
#[must_use]
pub fn run(args: impl IntoIterator<Item = OsString>, environment: Vec<(OsString, OsString)>) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return told(&error),
    };
    let out = Out::new(cli.globals.output);
    let context = Context {
        globals: cli.globals,
        environment,
        out,
    };
    let done = match cli.command {
        Command::Serve(args) => serve::run(&context, args),
        Command::Migrate => wait(migrate::run(&context)),
        Command::User(command) => wait(user::run(&context, command)),
        Command::Client(command) => wait(client::run(&context, command)),
        Command::Session(command) => wait(session::run(&context, command)),
        Command::Key(command) => wait(key::run(&context, command)),
        Command::Audit(command) => wait(audit::run(&context, command)),
        Command::Token(args) => token::run(&context, args),
        Command::Agent(args) => agent::run(&context, args),
        Command::Config(command) => config::run(&context, &command),
        Command::Doctor => wait(doctor::run(&context)),
        Command::Completions(args) => describe::completions(&args, Cli::command()),
        Command::Man(args) => describe::man(&args, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Help and version are answers; anything else that clap says is about how the command was written.
fn told(error: &clap::Error) -> ExitCode {
    // If nobody reads it there is nobody to tell.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
