//! `completions` and `man`: shell completions and manual pages.

use clap_complete::Shell;

use super::Failure;
use super::output::print;

#[derive(clap::Args)]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(clap::Args)]
pub(super) struct Man {
    /// The command to describe, for instance `user add`.
    command: Vec<String>,
}

pub(super) fn completions(args: &Completions, mut commands: clap::Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut commands, "countersign", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &Man, mut commands: clap::Command) -> Result<(), Failure> {
    commands.build();
    let mut command = &commands;
    for name in &args.command {
        command = command
            .find_subcommand(name)
            .ok_or_else(|| Failure::usage(format!("there is no command `{}`", args.command.join(" "))))?;
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    print(&String::from_utf8_lossy(&page))
}
