//! `user import`: imports users of another system with their password hashes.

mod fields;
mod json;
mod rows;
mod table;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::task::Poll;

use futures_util::stream;
use tokio::sync::mpsc;

use crate::account::Principal;
use crate::account::users::{EndedImport, ImportRow};
use crate::cli::output::{print, progress};
use crate::cli::text::printable;
use crate::cli::{Context, Failure, store};
use crate::grpc::convert;
use crate::proto::ImportUsersResponse;
pub use rows::{FileFormat, NextRow, Rows};

/// Rows that are read before they are imported.
const READ_AHEAD: usize = 64;

#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// JSON with one user a line (`.jsonl`), or CSV with a header (`.csv`); `-` is the standard input. Fields: `username`,
    /// `email`, `display_name`, `roles`, `attributes`, `disabled`, `password_hash`, and `legacy_id` (or `_id`), which becomes an
    /// attribute. docs/import.md lists the hashes, and how to export users of other systems.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let is_input = args.file == Path::new("-");
    let name = if is_input {
        "the standard input".to_owned()
    } else {
        args.file.display().to_string()
    };
    let (input, size) = if is_input {
        (Box::new(std::io::stdin()) as Box<dyn Read + Send>, None)
    } else {
        let cannot = |error: std::io::Error| Failure::usage(format!("cannot read {name}: {error}"));
        let file = std::fs::File::open(&args.file).map_err(cannot)?;
        let size = file.metadata().map_err(cannot)?.len();
        (Box::new(file) as _, Some(size))
    };
    let progress = progress(size, "{bar:40} {bytes}/{total_bytes}, {eta} left");
    let rows = Rows::read(FileFormat::of(&args.file), BufReader::new(progress.wrap_read(input)))
        .map_err(|problem| Failure::usage(format!("{name}: {problem}")))?;
    let app = store::open(context).await?;
    let mut rows = read_ahead(rows)?;
    let (mut lines, mut unreadable) = (Vec::new(), None);
    let read = stream::poll_fn(|context| {
        let next = std::task::ready!(rows.poll_recv(context)).unwrap_or(Ok(None));
        Poll::Ready(match next {
            Ok(row) => row.map(|(line, row)| {
                lines.push(line);
                row
            }),
            Err(error) => {
                unreadable = Some(error);
                None
            }
        })
    });
    let imported = app.users.import(&Principal::owner(), read).await;
    progress.finish_and_clear();
    let mut imported = imported?;
    let ended = imported.ended.take();
    let mut response = convert::imported(imported);
    for error in &mut response.rejected {
        let line = line_of(&lines, error.index);
        error.message = format!("line {line}: {}: {}", error.field, error.message);
    }
    print_response(context, &response)?;

    let place = context.store.get().map_or("the store", String::as_str);
    let so_far = format!("{} users are in {place}", response.imported);
    if let Some(EndedImport { index, error }) = ended {
        let line = line_of(&lines, index);
        return Err(Failure::from(error).prefixed(&format!(
            "the import ended at line {line} of {name}, and {so_far} (import the file again: it refuses those users and goes on)"
        )));
    }
    if let Some(error) = unreadable {
        let line = lines.last().copied().unwrap_or_default();
        return Err(Failure::other(format!(
            "cannot read {name} after line {line}: {error}; {so_far}"
        )));
    }
    // The exit code tells a script, before it deletes the file, that rows are missing.
    if !response.rejected.is_empty() {
        if response.imported > 0 {
            context.out.remark(&format!("changed {place}"));
        }
        return Err(Failure::silent());
    }
    Ok(())
}

/// Reads the rows on a thread of its own: the input may be a pipe that is slow, and the connections to the store must go on
/// meanwhile.
fn read_ahead(mut rows: Rows<impl BufRead + Send + 'static>) -> Result<mpsc::Receiver<NextRow<ImportRow>>, Failure> {
    let (send, receive) = mpsc::channel(READ_AHEAD);
    let read = move || {
        loop {
            let next = rows.next_row();
            let is_last = !matches!(next, Ok(Some(_)));
            if send.blocking_send(next).is_err() || is_last {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .spawn(read)
        .map_err(|error| Failure::other(format!("cannot start: {error}")))?;
    Ok(receive)
}

/// Prints the response as JSON, or as text with a line for each rejected row.
fn print_response(context: &Context, response: &ImportUsersResponse) -> Result<(), Failure> {
    if context.out.is_json() {
        return context.out.message(response);
    }
    for error in &response.rejected {
        print(&format!("{}\n", printable(&error.message)))?;
    }
    print(&format!(
        "{} imported, {} rejected\n",
        response.imported,
        response.rejected.len()
    ))
}

/// The line on which the row at `index` begins.
fn line_of(lines: &[u64], index: u32) -> u64 {
    lines.get(index as usize).copied().unwrap_or_default()
}
