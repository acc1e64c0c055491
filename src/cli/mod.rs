//! The command line, with one file for each subcommand.
//!
//! A command prints the response of the RPC that does the same, as text or as proto3 JSON. An error is one line on the
//! standard error that says what to do next. Secrets are never arguments, because the process list shows arguments.

mod agent;
mod audit;
mod client;
mod config;
mod describe;
mod doctor;
mod failure;
mod health;
mod input;
mod json;
mod key;
mod memory;
mod migrate;
mod output;
mod remote;
mod serve;
mod session;
mod store;
mod text;
mod token;
mod user;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{Config, Flag, Layers, LogFormat, unquoted};
use failure::{Failure, USAGE};
use output::{Format, Output};

// The reader of the files of `user import`.
pub use user::{FileFormat, NextRow, Rows};

/// A token service over gRPC: logs users in and out, refreshes their sessions, and validates tokens.
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

    /// Format of the output.
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Text)]
    output: Format,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service: on one folder (embedded), unless the configuration names a database.
    Serve(serve::Args),
    /// Bring the schema of the stores up to date; `serve` does this too.
    Migrate,
    /// Manage users, directly on the store.
    #[command(subcommand)]
    User(user::Command),
    /// Manage clients (the applications that get tokens), directly on the store.
    #[command(subcommand)]
    Client(client::Command),
    /// List and revoke sessions, directly on the store.
    #[command(subcommand)]
    Session(session::Command),
    /// Manage the keys that sign tokens, directly on the store.
    #[command(subcommand)]
    Key(key::Command),
    /// Read the audit trail, directly on the store.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Call a running server to issue, refresh, validate and revoke tokens.
    Token(token::Args),
    /// Validate tokens from memory, beside a service.
    Agent(agent::Args),
    /// Print or check the configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Check whether the service could run with this configuration and these stores, or check a running server; changes nothing.
    Doctor(doctor::Args),
    /// Ask a running server or agent whether it serves. Exits with 0 if it does, 1 if not, and 69 if it cannot be reached.
    Health(health::Args),
    /// Print a script with which a shell completes these commands.
    Completions(describe::Completions),
    /// Print the manual page, or that of one command.
    Man(describe::Man),
}

impl Command {
    /// Whether the command changes a store, which it then names.
    const fn changes_store(&self) -> bool {
        match self {
            Self::Migrate => true,
            Self::User(command) => command.changes_store(),
            Self::Client(command) => command.changes_store(),
            Self::Session(command) => command.changes_store(),
            Self::Key(command) => command.changes_store(),
            Self::Serve(_)
            | Self::Audit(_)
            | Self::Token(_)
            | Self::Agent(_)
            | Self::Config(_)
            | Self::Doctor(_)
            | Self::Health(_)
            | Self::Completions(_)
            | Self::Man(_) => false,
        }
    }
}

/// The environment, the global options and the output, for every command.
struct Context {
    globals: Globals,
    environment: Vec<(OsString, OsString)>,
    out: Output,
    /// The name of the store that the command has opened.
    store: OnceCell<String>,
}

impl Context {
    /// Loads the configuration with the flags of a command.
    fn config(&self, flags: Vec<Flag>) -> Result<Config, Failure> {
        Ok(Config::load(&self.layers(flags)?)?)
    }

    /// Like [`Context::config`], for a command that logs: where the log is JSON, a failure is a line of it.
    fn config_of_service(&self, flags: Vec<Flag>) -> Result<Config, Failure> {
        let layers = self.layers(flags)?;
        Config::load(&layers).map_err(|error| Failure::from(error).in_log(LogFormat::of_broken(&layers)))
    }

    fn layers(&self, mut flags: Vec<Flag>) -> Result<Layers<'_>, Failure> {
        if let Some(dir) = &self.globals.data_dir {
            let value = dir.to_str().ok_or_else(|| Failure::usage("--data-dir must be UTF-8"))?;
            flags.push(Flag {
                name: "--data-dir",
                key: "storage.data_dir",
                value: value.to_owned(),
            });
        }
        let environment = self.environment.clone();
        Ok(Layers {
            file: self.globals.config.as_deref(),
            environment,
            flags,
        })
    }

    /// The value of an environment variable that does not set an option, without the blanks and quotation marks around it;
    /// `None` if it is unset or empty.
    fn variable(&self, name: &str) -> Option<&str> {
        let found = self.environment.iter().find(|(key, _)| key == name);
        found
            .and_then(|(_, value)| value.to_str())
            .map(unquoted)
            .filter(|value| !value.is_empty())
    }
}

/// Runs an async command to its end.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    let result = runtime.block_on(command);
    // Background tasks are not waited for.
    runtime.shutdown_background();
    result
}

/// Runs the command of `args`, whose first element is the name of the program. Only this function gets the environment.
#[must_use]
pub fn run(args: Vec<OsString>, environment: Vec<(OsString, OsString)>) -> ExitCode {
    // Before a command reads a key or a password. `serve` and `agent` do it again once they can log a failure.
    memory::disable_core_dumps();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return print_clap(&error),
    };
    let out = Output::new(cli.globals.output);
    let context = Context {
        globals: cli.globals,
        environment,
        out,
        store: OnceCell::new(),
    };
    let changes_store = cli.command.changes_store();
    let result = match cli.command {
        Command::Serve(args) => serve::run(&context, args),
        Command::Migrate => block_on(migrate::run(&context)),
        Command::User(command) => block_on(user::run(&context, command)),
        Command::Client(command) => block_on(client::run(&context, command)),
        Command::Session(command) => block_on(session::run(&context, command)),
        Command::Key(command) => block_on(key::run(&context, command)),
        Command::Audit(command) => block_on(audit::run(&context, command)),
        Command::Token(args) => token::run(&context, args),
        Command::Agent(args) => agent::run(&context, args),
        Command::Config(command) => config::run(&context, &command),
        Command::Doctor(args) => block_on(doctor::run(&context, args)),
        Command::Health(args) => block_on(health::run(&context, args)),
        Command::Completions(args) => describe::completions(&args, Cli::command()),
        Command::Man(args) => describe::man(&args, Cli::command()),
    };
    match result {
        Ok(()) => {
            if changes_store && let Some(store) = context.store.get() {
                context.out.remark(&format!("changed {store}"));
            }
            ExitCode::SUCCESS
        }
        Err(failure) => failure.report(),
    }
}

/// Prints what clap returns instead of a command: help and version succeed; everything else is a usage error.
fn print_clap(error: &clap::Error) -> ExitCode {
    // A failure to write to a closed stream cannot be reported.
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
    fn clap_accepts_the_definition_of_the_command_line() {
        Cli::command().debug_assert();
    }
}
