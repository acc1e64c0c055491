//! `completions` and `man`: shell completions and manual pages.

use std::io;

use clap_complete::Shell;
use clap_mangen::Man as Page;
use clap_mangen::roff::{Roff, roman};

use super::Failure;
use super::failure::{OTHER, UNREACHABLE, USAGE};
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
    let path: Vec<&str> = args.command.iter().map(String::as_str).collect();
    print(&page(command, &path)?)
}

/// The manual page of a command. `path` has the names that lead to it.
fn page(command: &clap::Command, path: &[&str]) -> io::Result<String> {
    let man = Page::new(command.clone());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut statuses = Roff::default();
    statuses.control("SH", ["EXIT STATUS"]);
    for (status, meaning) in exit_statuses(path) {
        statuses.control("TP", []);
        statuses.text([roman(status.to_string())]);
        statuses.text([roman(meaning)]);
    }
    statuses.to_writer(&mut page)?;
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Every exit status of a command, and what it means there.
fn exit_statuses(path: &[&str]) -> [(u8, &'static str); 4] {
    let success = match path {
        ["serve" | "agent"] => "It was stopped by SIGTERM or SIGINT.",
        ["doctor"] => {
            "The service can start with this configuration and these stores, or the server can be used. There may be warnings."
        }
        ["health"] => "The server serves.",
        ["token", "validate"] => "The token is active.",
        _ => "The command has done its work.",
    };
    let failure = match path {
        ["doctor"] => "A check failed. The output says which one, and what to do.",
        ["health"] => "The server answers, but does not serve.",
        ["token", "validate"] => "The token is not active (the output has the reason), or the server refused the call.",
        ["user", "import"] => "Some rows were rejected (the output names them), or the store refused the import.",
        ["key", "reseal"] => "Some rows could not be opened (the output names them) and were not changed.",
        _ => "The command was refused or failed. The standard error has one line with the cause.",
    };
    [
        (0, success),
        (OTHER, failure),
        (
            USAGE,
            "The command line or the configuration is wrong. Nothing was changed.",
        ),
        (
            UNREACHABLE,
            "A store or a server cannot be reached. The same command may work later.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::Cli;

    /// The page of every command, by its path.
    fn pages(command: &clap::Command, path: &[&str], found: &mut Vec<(String, String)>) {
        found.push((path.join(" "), page(command, path).unwrap()));
        for subcommand in command.get_subcommands() {
            pages(subcommand, &[path, &[subcommand.get_name()]].concat(), found);
        }
    }

    #[test]
    fn every_page_lists_every_exit_status() {
        let mut cli = Cli::command();
        cli.build();
        let mut all = Vec::new();
        pages(&cli, &[], &mut all);
        assert!(all.len() > 40, "{}", all.len());
        for (path, page) in &all {
            let (_, section) = page
                .split_once(".SH \"EXIT STATUS\"\n")
                .unwrap_or_else(|| panic!("{path}"));
            let section = section.split("\n.SH").next().unwrap();
            let listed: Vec<&str> = section.lines().filter(|line| line.parse::<u8>().is_ok()).collect();
            assert_eq!(listed, ["0", "1", "64", "69"], "{path}: {section}");
        }
        let of = |path: &str| &all.iter().find(|(known, _)| known == path).unwrap().1;
        assert!(of("token validate").contains("The token is not active"));
        assert!(of("serve").contains("SIGTERM"));
    }

    #[test]
    fn commands_with_statuses_of_their_own_exist() {
        let cli = Cli::command();
        for path in [
            &["serve"][..],
            &["agent"],
            &["doctor"],
            &["health"],
            &["token", "validate"],
            &["user", "import"],
            &["key", "reseal"],
        ] {
            let mut command = &cli;
            for name in path {
                command = command.find_subcommand(name).unwrap_or_else(|| panic!("{path:?}"));
            }
            assert_ne!(exit_statuses(path)[..2], exit_statuses(&[])[..2], "{path:?}");
        }
    }
}
