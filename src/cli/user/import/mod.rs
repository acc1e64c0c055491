//! `user import`: imports users of another system with their password hashes.

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
use rows::{FileFormat, Rows};

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// JSON with one user a line (`.jsonl`), or CSV with a header (`.csv`). Fields: `username`, `email`, `display_name`,
    /// `roles`, `attributes`, `disabled`, `password_hash` (argon2, bcrypt, scrypt or PBKDF2 in PHC format, or PBKDF2 in
    /// Django's format).
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let path = args.file.display();
    let format = FileFormat::of(&args.file)
        .ok_or_else(|| Failure::usage(format!("{path}: the file name must end in .jsonl, .ndjson or .csv")))?;
    let cannot = |error: std::io::Error| Failure::usage(format!("cannot read {path}: {error}"));
    let file = std::fs::File::open(&args.file).map_err(cannot)?;
    let size = file.metadata().map_err(cannot)?.len();
    let progress = progress(Some(size), "{bar:40} {bytes}/{total_bytes}, {eta} left");
    let mut rows = Rows::read(format, BufReader::new(progress.wrap_read(file)))
        .map_err(|problem| Failure::usage(format!("{path}: {problem}")))?;
    let app = store::open(context).await?;
    let imported = app.users.import(&Principal::owner(), stream::iter(rows.by_ref())).await;
    progress.finish_and_clear();
    let response = convert::imported(imported?);
    report(context, &response, rows.lines())
}

/// Prints the response as JSON, or as text with the line number of each rejected row.
fn report(context: &Context, response: &ImportUsersResponse, lines: &[u64]) -> Result<(), Failure> {
    if context.out.is_json() {
        context.out.message(response)?;
    } else {
        for error in &response.rejected {
            let line = lines.get(error.index as usize).copied().unwrap_or_default();
            print(&format!(
                "{}\n",
                printable(&format!("line {line}: {}: {}", error.field, error.message))
            ))?;
        }
        print(&format!(
            "{} imported, {} rejected\n",
            response.imported,
            response.rejected.len()
        ))?;
    }
    // The exit code tells a script, before it deletes the file, that rows are missing.
    if response.rejected.is_empty() {
        Ok(())
    } else {
        Err(Failure::silent())
    }
}
