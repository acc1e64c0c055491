//! `user import`: users of another system, with the password hashes that it made.

mod rows;

use std::io::BufReader;
use std::path::PathBuf;

use futures_util::stream;

use crate::account::Principal;
use crate::cli::output::{print, progress};
use crate::cli::text::printable;
use crate::cli::{Context, Failure, store};
use crate::grpc::convert;
use crate::proto::ImportUsersResponse;
use rows::{Kind, Rows};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// One user a line as JSON (`.jsonl`), or CSV with a head (`.csv`). Fields: `username`, `email`, `display_name`,
    /// `roles`, `attributes`, `disabled`, `password_hash` (argon2, bcrypt, scrypt or PBKDF2 in PHC form, or Django's).
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let path = args.file.display();
    let kind = Kind::of(&args.file).ok_or_else(|| Failure::usage(format!("{path}: must end in .jsonl or .csv")))?;
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot read {path}: {error}"));
    let file = std::fs::File::open(&args.file).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let progress = progress(Some(size), "{bar:40} {bytes}/{total_bytes}, {eta} left");
    let mut rows = Rows::read(kind, BufReader::new(progress.wrap_read(file)))
        .map_err(|problem| Failure::usage(format!("{path}: {problem}")))?;
    let app = store::open(context).await?;
    let imported = app.users.import(&Principal::owner(), stream::iter(rows.by_ref())).await;
    progress.finish_and_clear();
    let answer = convert::imported(imported?);
    report(context, &answer, rows.lines())
}

/// The response as JSON; for people, what was refused by its line.
fn report(context: &Context, answer: &ImportUsersResponse, lines: &[u64]) -> Result<(), Failure> {
    if context.out.is_json() {
        context.out.message(answer)?;
    } else {
        for error in &answer.rejected {
            let line = lines.get(error.index as usize).copied().unwrap_or_default();
            print(&format!(
                "{}\n",
                printable(&format!("line {line}: {}: {}", error.field, error.message))
            ))?;
        }
        print(&format!(
            "{} imported, {} rejected\n",
            answer.imported,
            answer.rejected.len()
        ))?;
    }
    // A script that goes on to delete the file must notice.
    if answer.rejected.is_empty() {
        Ok(())
    } else {
        Err(Failure::silent())
    }
}
