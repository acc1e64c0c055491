//! Finds the commands of a page: in fenced blocks, in code spans of the text, and in comments of configuration files.

use std::path::{Path, PathBuf};

/// Programs that the pages call. A code span or a line of a comment that begins with one of them, and has arguments, is
/// a command.
const PROGRAMS: &[&str] = &[
    "alias",
    "cargo",
    "countersign",
    "createdb",
    "curl",
    "deploy/make-secrets",
    "docker",
    "grpcurl",
    "helm",
    "install",
    "journalctl",
    "kubectl",
    "openssl",
    "pg_basebackup",
    "pg_dump",
    "pg_restore",
    "printf",
    "psql",
    "redis-cli",
    "SELECT",
    "sqlite3",
    "ss",
    "systemctl",
    "systemd-run",
    "target/release/countersign",
];

/// A command of a page.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    pub(crate) page: String,
    /// The number of its first line.
    pub(crate) line: usize,
    pub(crate) text: String,
    /// The lines of output that the page shows.
    pub(crate) output: Vec<String>,
}

impl Command {
    /// Its first word.
    pub(crate) fn program(&self) -> &str {
        self.text.split_whitespace().next().unwrap_or_default()
    }

    /// Where it is, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}: {}", self.page, self.line, self.text)
    }
}

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The commands of a page of the source tree, in their order.
pub(crate) fn of_page(page: &str) -> Vec<Command> {
    let path = root().join(page);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    of_text(page, &text)
}

/// The commands of a text, by the kind of its page.
fn of_text(page: &str, text: &str) -> Vec<Command> {
    let extension = Path::new(page).extension().and_then(|extension| extension.to_str());
    let mut found = match extension {
        Some("md") => markdown(page, text),
        Some("rs") => markdown(page, &stripped(text, "//!")),
        // Helm's notes are plain text: commands are indented.
        Some("txt") => lines(page, text, |line| line.starts_with("  ")),
        _ => {
            let comments = stripped(text, "#");
            let mut found = lines(page, &comments, |_| true);
            found.extend(spans(page, &comments));
            found
        }
    };
    found.sort_by_key(|command| command.line);
    found
}

/// Keeps the lines that begin with `mark`, without it; the other lines become empty, so that numbers stay.
fn stripped(text: &str, mark: &str) -> String {
    let line = |line: &str| match line.trim_start().strip_prefix(mark) {
        Some(rest) => rest.strip_prefix(' ').unwrap_or(rest).to_owned(),
        None => String::new(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// A fenced block.
struct Block<'a> {
    is_shell: bool,
    /// The number of its first line.
    first: usize,
    indent: usize,
    lines: Vec<&'a str>,
}

fn markdown(page: &str, text: &str) -> Vec<Command> {
    let (mut found, mut prose, mut block) = (Vec::new(), String::new(), None::<Block<'_>>);
    for (index, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut block, fence) {
            (None, Some(language)) => {
                block = Some(Block {
                    is_shell: ["console", "sh", "bash", "shell"].contains(&language.trim()),
                    first: index + 2,
                    // A block in a list is indented.
                    indent: line.len() - line.trim_start().len(),
                    lines: Vec::new(),
                });
            }
            (Some(whole), Some(_)) => {
                if whole.is_shell {
                    found.extend(console(page, whole.first, &whole.lines));
                }
                block = None;
            }
            (Some(open), None) => open.lines.push(line.get(open.indent..).unwrap_or_default()),
            (None, None) => prose.push_str(line),
        }
        prose.push('\n');
    }
    assert!(block.is_none(), "{page}: a fenced block has no end");
    found.extend(spans(page, &prose));
    found
}

/// The commands of a fenced block. Each begins with `$ `; lines of output follow it.
fn console(page: &str, first: usize, lines: &[&str]) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some(text) = line.strip_prefix("$ ") {
            found.push(Command {
                page: page.to_owned(),
                line: first + index,
                text: text.to_owned(),
                output: Vec::new(),
            });
            continue;
        }
        let last = found
            .last_mut()
            .unwrap_or_else(|| panic!("{page}:{}: a block begins without `$ `", first + index));
        if last.output.is_empty() && is_incomplete(&last.text) {
            last.text.push('\n');
            last.text.push_str(line);
        } else {
            last.output.push((*line).to_owned());
        }
    }
    found
}

/// Whether the shell would ask for another line.
fn is_incomplete(text: &str) -> bool {
    let (mut quote, mut escaped) = (None, false);
    for character in text.chars() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (None | Some('"'), '\\') => escaped = true,
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    quote.is_some() || escaped
}

/// The code spans that are commands. A span may continue on the next line.
fn spans(page: &str, text: &str) -> Vec<Command> {
    let (mut found, mut line) = (Vec::new(), 1);
    for (index, part) in text.split('`').enumerate() {
        let words = part.split_whitespace().collect::<Vec<_>>().join(" ");
        if index % 2 == 1 && is_command(&words) {
            found.push(Command {
                page: page.to_owned(),
                line,
                text: words,
                output: Vec::new(),
            });
        }
        line += part.matches('\n').count();
    }
    found
}

/// The lines that are commands, with the lines that continue them.
fn lines(page: &str, text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Command> {
    let mut found: Vec<Command> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match found.last_mut() {
            Some(last) if is_incomplete(&last.text) => {
                last.text.push('\n');
                last.text.push_str(line);
            }
            _ if wanted(line) && is_command(line.trim()) => found.push(Command {
                page: page.to_owned(),
                line: index + 1,
                text: line.trim().to_owned(),
                output: Vec::new(),
            }),
            _ => {}
        }
    }
    found
}

/// `countersign user …` names a group of commands, and is none itself.
fn is_command(text: &str) -> bool {
    let mut words = text.split_whitespace();
    let program = words.next().unwrap_or_default();
    !text.ends_with(" …")
        && PROGRAMS.contains(&program)
        && (words.next().is_some_and(|word| word != "=") || program == "deploy/make-secrets")
}

#[test]
fn commands_are_found_wherever_a_page_has_them() {
    let page = "Run `countersign doctor`, or\n`countersign\nkey list`. Not `countersign` or `countersign user …`.\n\n```console\n$ A=1\n\
        $ echo 'one\ntwo' \\\n    three\noutput\n```\n\n```toml\n# countersign = 1\n```\n";
    let found = of_text("page.md", page);
    let texts: Vec<&str> = found.iter().map(|command| command.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "countersign doctor",
            "countersign key list",
            "A=1",
            "echo 'one\ntwo' \\\n    three"
        ]
    );
    assert_eq!((found[1].line, found[3].line), (2, 7));
    assert_eq!(found[3].output, ["output"]);

    let file = "# Start it:\n#   docker compose \\\n#     up\n# (see `countersign doctor`)\nkey = 'docker run'\n";
    let found = of_text("file.yaml", file);
    let texts: Vec<&str> = found.iter().map(|command| command.text.as_str()).collect();
    assert_eq!(texts, ["docker compose \\\n    up", "countersign doctor"]);

    let found = of_text("NOTES.txt", "Run\n\n  kubectl get pods\n\nkubectl is needed\n");
    assert_eq!((found.len(), found[0].line), (1, 3));
    let found = of_text("example.rs", "//! ```console\n//! $ cargo run\n//! ```\nfn main() {}\n");
    assert_eq!((found.len(), found[0].text.as_str()), (1, "cargo run"));
}
