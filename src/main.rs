//! The command `countersign`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    countersign::cli::run(std::env::args_os(), std::env::vars_os().collect())
}
