//! Finds the paths that a source file names.

/// Every path from the crate's root or into another crate, with groups expanded.
pub(crate) fn named(source: &str, module: &str) -> Vec<String> {
    let tokens = &tokens(source);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let continued =
            at > 0 && (tokens[at - 1] == "." || (tokens[at - 1] == "::" && is_word(tokens, at.wrapping_sub(2))));
        if tokens[at] == "use" {
            at = tree(tokens, at + 1, "", &mut found);
        } else if !continued && is_word(tokens, at) && tokens.get(at + 1).is_some_and(|next| next == "::") {
            at = tree(tokens, at, "", &mut found);
        } else {
            at += 1;
        }
    }
    found.iter().map(|path| absolute(path, module)).collect()
}

/// Reads one tree of a `use` (or a plain path) into whole paths. Returns the index of the token after it.
fn tree(tokens: &[String], mut at: usize, prefix: &str, found: &mut Vec<String>) -> usize {
    let mut path = prefix.to_owned();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => at += 1,
            "{" if path == prefix || tokens[at - 1] == "::" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, &path, found).max(at + 1);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "self" if !path.is_empty() => at += 1,
            _ if is_word(tokens, at) && (path == prefix || tokens[at - 1] == "::") => {
                path = if path.is_empty() {
                    token.clone()
                } else {
                    format!("{path}::{token}")
                };
                at += 1;
            }
            _ => break,
        }
    }
    if tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    if !path.is_empty() {
        found.push(path);
    }
    at
}

/// Resolves `super::x` from `module`, and the library's name from the binary, to a path from `crate`.
fn absolute(path: &str, module: &str) -> String {
    if let Some(rest) = path.strip_prefix("countersign::") {
        return format!("crate::{rest}");
    }
    let mut home: Vec<&str> = module.split("::").collect();
    let mut rest = path;
    if let Some(own) = rest.strip_prefix("self::") {
        return format!("crate::{module}::{own}");
    }
    while let Some(upper) = rest.strip_prefix("super::") {
        home.pop();
        rest = upper;
    }
    if rest.len() == path.len() {
        path.to_owned()
    } else {
        home.insert(0, "crate");
        home.push(rest);
        home.join("::")
    }
}

fn is_word(tokens: &[String], at: usize) -> bool {
    tokens
        .get(at)
        .is_some_and(|token| token.starts_with(|c: char| c.is_alphabetic() || c == '_'))
}

/// Words, `::` and single characters, without comments, strings, character literals and lifetimes.
fn tokens(source: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let taken = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => comment(rest),
            '"' => string(rest),
            'r' | 'b' if raw_string(rest).is_some() => raw_string(rest).unwrap_or(1),
            '\'' => character(rest),
            ':' if rest.starts_with("::") => {
                out.push("::".to_owned());
                2
            }
            _ if c.is_alphanumeric() || c == '_' => {
                let word = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                out.push(rest[..word].to_owned());
                word
            }
            _ => {
                if !c.is_whitespace() {
                    out.push(c.to_string());
                }
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    out
}

fn comment(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, pair) in text.as_bytes().windows(2).enumerate() {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth = depth.saturating_sub(1),
            _ => continue,
        }
        if depth == 0 {
            return at + 2;
        }
    }
    text.len()
}

fn string(text: &str) -> usize {
    let mut escaped = true;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r"…"`, `r#"…"#` or `br"…"`; none if the text is a word that starts with that letter.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('b').unwrap_or(text).strip_prefix('r')?;
    let body = after.trim_start_matches('#').strip_prefix('"')?;
    let hashes = after.len() - body.len() - 1;
    let end = format!("\"{}", "#".repeat(hashes));
    let head = text.len() - body.len();
    Some(head + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

/// The length of a character literal, or of the quote before a lifetime.
fn character(text: &str) -> usize {
    let body = &text[1..];
    if body.starts_with('\\') {
        return body[2..].find('\'').map_or(text.len(), |at| at + 4);
    }
    let first = body.chars().next().map_or(0, char::len_utf8);
    if body[first..].starts_with('\'') { first + 2 } else { 1 }
}
