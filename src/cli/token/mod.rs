//! `token`: what a service asks a running server, from the command line.

mod connect;
mod decode;
mod issue;
mod refresh;
mod revoke;
mod validate;
mod watch;

use std::path::PathBuf;

use clap::Subcommand;

use super::{Context, Failure, input, wait};
use crate::secret::SecretText;
use connect::Caller;

/// Where servers are unless told otherwise: what `serve` listens on.
const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

#[derive(clap::Args)]
pub(super) struct Args {
    /// Which server. The caller's own access token, where one is needed, is read from `COUNTERSIGN_TOKEN`.
    #[arg(long, global = true, value_name = "URL", default_value = DEFAULT_SERVER)]
    server: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Log a user in, or a client with its own secret, and print the tokens.
    Issue(issue::Args),
    /// Exchange a refresh token for new tokens.
    Refresh(refresh::Args),
    /// Ask whether an access token is good; exits 1 if it is not.
    Validate(validate::Args),
    /// End the session of an access or refresh token; a machine's access token itself.
    Revoke(revoke::Args),
    /// Print what a token says, without asking anybody whether it is true.
    Decode(TokenFile),
    /// Follow the revocations as they happen.
    Watch,
}

/// Where the token comes from that a command is about.
#[derive(clap::Args)]
struct TokenFile {
    /// Read the token from the first line of this file instead of a prompt or the standard input.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl TokenFile {
    fn read(&self) -> Result<SecretText, Failure> {
        input::secret("token", self.token_file.as_deref())
    }
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let caller = Caller {
        server: args.server,
        token: context.variable("COUNTERSIGN_TOKEN").map(SecretText::new),
    };
    match args.command {
        Command::Issue(args) => wait(issue::run(context, &caller, args)),
        Command::Refresh(args) => wait(refresh::run(context, &caller, args)),
        Command::Validate(args) => wait(validate::run(context, &caller, args)),
        Command::Revoke(args) => wait(revoke::run(context, &caller, args)),
        Command::Decode(token) => decode::run(context, &token.read()?),
        Command::Watch => wait(watch::run(context, &caller)),
    }
}
