//! Lines that cannot do anything to the terminal or the log that they end in.
//!
//! A user agent with line breaks would forge log lines, one with escape sequences would rewrite the operator's terminal
//! (CVE-2025-58160 was that, in `tracing-subscriber` before 0.3.20), one with bidirectional controls would read as
//! something else. JSON escapes only what is below U+0020, and the text format not even line breaks.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use tracing_subscriber::fmt::MakeWriter;

/// Writers whose lines have been made harmless.
#[derive(Debug)]
pub(super) struct Harmless<M>(pub(super) M);

/// Takes one whole line at a time, as the formatters write them.
#[derive(Debug)]
pub(super) struct HarmlessWriter<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Harmless<M> {
    type Writer = HarmlessWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        HarmlessWriter(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for HarmlessWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(harmless(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The line with every character that controls anything written as `\uXXXX`, which JSON reads back. Kept are the line
/// break at the end, tabs, and the colours that the formatter itself wrote (it escapes those in values).
pub(super) fn harmless(line: &str) -> Cow<'_, str> {
    let body = line.strip_suffix('\n').unwrap_or(line);
    if !body.chars().any(controls) {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len() + 16);
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        let colour = colour_len(rest);
        let taken = if colour > 0 { colour } else { c.len_utf8() };
        if colour > 0 || !controls(c) {
            clean.push_str(&rest[..taken]);
        } else {
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        }
        rest = &rest[taken..];
    }
    clean.push_str(&line[body.len()..]);
    Cow::Owned(clean)
}

/// Control characters, the separators that some viewers break lines at, and what changes the direction of text.
fn controls(c: char) -> bool {
    c != '\t' && c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The length of the colour sequence (`ESC [ … m`) that the text begins with; 0 if it begins with none.
fn colour_len(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let digits = rest
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || *byte == b';')
        .count();
    if rest[digits..].starts_with('m') {
        2 + digits + 1
    } else {
        0
    }
}
