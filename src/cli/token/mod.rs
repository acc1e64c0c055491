//! `token`: calls a running server as a service would.

mod connect;
mod decode;
mod issue;
mod refresh;
mod revoke;
mod validate;
mod watch;

use std::path::PathBuf;

use clap::Subcommand;

use super::remote::ServerArgs;
use super::{Context, Failure, block_on, input};
use crate::secret::SecretText;
use connect::Caller;

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Log in a user, or a client with its secret, and print the tokens.
    Issue(issue::Args),
    /// Exchange a refresh token for new tokens.
    Refresh(refresh::Args),
    /// Check whether an access token is active; exits with 1 if it is not.
    Validate(validate::Args),
    /// Revoke the session of an access or refresh token; for a client's own access token, the token itself.
    Revoke(revoke::Args),
    /// Print the contents of a token without verifying it.
    Decode(TokenFile),
    /// Print revocations as they happen.
    Watch,
}

/// Where the token of a command comes from.
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
        server: args.server.server(context),
        token: context.variable("COUNTERSIGN_TOKEN").map(SecretText::new),
    };
    match args.command {
        Command::Issue(args) => block_on(issue::run(context, &caller, args)),
        Command::Refresh(args) => block_on(refresh::run(context, &caller, args)),
        Command::Validate(args) => block_on(validate::run(context, &caller, args)),
        Command::Revoke(args) => block_on(revoke::run(context, &caller, args)),
        Command::Decode(token) => decode::run(context, &token.read()?),
        Command::Watch => block_on(watch::run(context, &caller)),
    }
}
