//! Reading secrets: from a file, from a prompt without echo on a terminal, else from the first line of the standard input.
//! Never from an argument, because the process list and the shell history show arguments. A byte order mark, and blanks and
//! line ends at the end, are not part of a secret from a file or from the standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::{Context, Failure};
use crate::secret::SecretText;

/// The longest secret that is read, in bytes.
const MAX_LEN: u64 = 64 * 1024;

/// Reads a secret. `name` is its name in messages, for instance "password"; `file` is the value of `--password-file` or
/// `--token-file`.
pub(super) fn secret(name: &str, file: Option<&Path>) -> Result<SecretText, Failure> {
    if let Some(path) = file {
        let cannot = |error| Failure::usage(format!("cannot read {}: {error}", path.display()));
        return first_line(name, File::open(path).map_err(cannot)?);
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        return prompt(name, &format!("{}: ", capitalize(name)));
    }
    first_line(name, input.lock())
}

/// Reads a new secret. A prompt asks for it twice.
pub(super) fn new_secret(name: &str, file: Option<&Path>) -> Result<SecretText, Failure> {
    let first = secret(name, file)?;
    if file.is_none() && std::io::stdin().is_terminal() && prompt(name, "Again: ")? != first {
        return Err(Failure::other(format!("the two {name}s differ; nothing was changed")));
    }
    Ok(first)
}

/// The option `--yes` of a command that cannot be undone.
#[derive(clap::Args)]
pub(super) struct Confirm {
    /// Do not ask for confirmation. Without a terminal the command never asks.
    #[arg(long)]
    yes: bool,
}

impl Confirm {
    /// Asks at a terminal whether to go on. `action` completes the question "About to …".
    pub(super) fn ask(&self, context: &Context, action: &str) -> Result<(), Failure> {
        let input = std::io::stdin();
        if self.yes || !input.is_terminal() {
            return Ok(());
        }
        let store = context.store.get().map_or("the store", String::as_str);
        context
            .out
            .remark(&format!("About to {action} in {store}. Type yes to go on:"));
        let mut answer = String::new();
        let read = input.lock().take(MAX_LEN).read_line(&mut answer);
        read.map_err(|error| Failure::other(format!("cannot read the answer: {error}")))?;
        if answer.trim().eq_ignore_ascii_case("yes") {
            return Ok(());
        }
        Err(Failure::other("not confirmed; nothing was changed"))
    }
}

fn prompt(name: &str, text: &str) -> Result<SecretText, Failure> {
    let typed = rpassword::prompt_password(text)
        .map_err(|error| Failure::other(format!("cannot ask for the {name}: {error}")))?;
    non_empty(name, typed.into())
}

fn first_line(name: &str, from: impl Read) -> Result<SecretText, Failure> {
    let mut line = Zeroizing::new(Vec::new());
    // Allocate once: a growing vector would leave copies of the secret in freed memory.
    line.reserve_exact(4096);
    BufReader::new(from.take(MAX_LEN))
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::other(format!("cannot read the {name}: {error}")))?;
    let text = SecretText::from_input(&line).map_err(|problem| Failure::other(format!("the {name} {problem}")))?;
    non_empty(name, text)
}

fn non_empty(name: &str, text: SecretText) -> Result<SecretText, Failure> {
    if text.is_empty() {
        return Err(Failure::usage(format!(
            "the {name} is empty: type it at the prompt, pass it as the first line of the standard input, or name a file"
        )));
    }
    Ok(text)
}

fn capitalize(name: &str) -> String {
    let mut letters = name.chars();
    letters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_read_without_blanks_at_its_end() {
        for (input, expected) in [
            ("hunter2\n", "hunter2"),
            ("hunter2", "hunter2"),
            ("two words \r\nsecond\n", "two words"),
            ("\u{feff}hunter2\n", "hunter2"),
        ] {
            assert_eq!(first_line("password", input.as_bytes()).unwrap().expose(), expected);
        }
        for bad in [&b"\n"[..], b"", b" \n", b"\xff\n", b"\xff\xfeh\0\n\0"] {
            assert!(first_line("password", bad).is_err());
        }
    }
}
