//! Escapes unprintable characters in log lines, so that a logged value cannot forge lines or control the terminal.
//!
//! A user agent with line breaks could forge log lines. One with escape sequences could rewrite the operator's
//! terminal (CVE-2025-58160, in `tracing-subscriber` before 0.3.20). One with bidirectional controls could display as
//! another text. The JSON format escapes only the characters below U+0020; the text format does not even escape line
//! breaks.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use tracing_subscriber::fmt::MakeWriter;

use crate::model::text::{is_directional_mark, is_unprintable};

/// Makes writers that escape unprintable characters.
#[derive(Debug)]
pub(super) struct Sanitizing<M>(pub(super) M);

/// Escapes unprintable characters. Each write is one whole line, as the formatters of `tracing-subscriber` make them.
#[derive(Debug)]
pub(super) struct SanitizingWriter<W>(W);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Sanitizing<M> {
    type Writer = SanitizingWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SanitizingWriter(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for SanitizingWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        self.0.write_all(sanitized(&text).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The line with each unprintable character written as `\uXXXX`, which is valid in JSON.
///
/// The line break at the end, tabs, and the colours that the formatter wrote stay; the formatter escapes colours in
/// values.
pub(super) fn sanitized(line: &str) -> Cow<'_, str> {
    let body = line.strip_suffix('\n').unwrap_or(line);
    if !body.chars().any(is_escaped) {
        return Cow::Borrowed(line);
    }
    let mut clean = String::with_capacity(line.len() + 16);
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        let colour = colour_len(rest);
        let taken = if colour > 0 { colour } else { c.len_utf8() };
        if colour > 0 || !is_escaped(c) {
            clean.push_str(&rest[..taken]);
        } else {
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        }
        rest = &rest[taken..];
    }
    clean.push_str(&line[body.len()..]);
    Cow::Owned(clean)
}

/// Control characters except tabs, separators at which some viewers break lines, and characters that change the
/// direction of text.
fn is_escaped(c: char) -> bool {
    c != '\t' && (is_unprintable(c) || is_directional_mark(c))
}

/// The length of the colour sequence (`ESC [ … m`) at the start of the text; 0 if there is none.
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
