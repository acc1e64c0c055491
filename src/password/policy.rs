//! The policy for new passwords (NIST SP 800-63B-4 §3.1.1): a minimum length, and hard to guess. There are no rules about
//! digits or symbols, because such rules lead to worse passwords.

use zxcvbn::{Score, zxcvbn};

use super::hash::normalised;
use crate::config;
use crate::model::{Error, ErrorKind, Result};
use crate::secret::SecretText;

/// The longest accepted password, in bytes.
pub const MAX_BYTES: usize = 1_024;

/// How many code points zxcvbn reads. Its cost grows steeply with the length of hostile text: 24 code points of look-alikes
/// (`4@8({[<3…`) took as long as two or three hashes of the default cost, 100 of them as long as seventy. A password with a
/// beginning that is hard to guess is hard to guess as a whole.
const ZXCVBN_PREFIX: usize = 24;

/// The length in characters to which words of the context are truncated.
const MAX_WORD: usize = 64;

/// The largest number of words of the context; further ones are ignored.
const MAX_WORDS: usize = 32;

/// The configured requirements for new passwords.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    min_length: usize,
}

impl Policy {
    /// The policy of this configuration.
    pub(super) fn new(config: &config::Password) -> Self {
        Self {
            min_length: config.min_length,
        }
    }

    /// Checks the length of a password, which is cheap.
    pub(super) fn check_length(&self, password: &SecretText, field: &'static str) -> Result<()> {
        check_size(password, field)?;
        if normalised(password).chars().count() < self.min_length {
            let problem = format!("must have at least {} characters", self.min_length);
            return Err(Error::at(ErrorKind::PasswordTooWeak, field, problem));
        }
        Ok(())
    }
}

/// Checks that a password is hard to guess. A password made of `words` counts as easy. Call it on a hashing thread: it can
/// take as long as a hash.
pub(super) fn check_strength(password: &SecretText, field: &'static str, words: &[String]) -> Result<()> {
    let text = normalised(password);
    let end = text
        .char_indices()
        .nth(ZXCVBN_PREFIX)
        .map_or(text.len(), |(end, _)| end);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if zxcvbn(&text[..end], &words).score() >= Score::Three {
        return Ok(());
    }
    let problem = "is easy to guess: too common, too regular, or made of the user's own names";
    Err(Error::at(ErrorKind::PasswordTooWeak, field, problem))
}

/// Checks that a password has at most [`MAX_BYTES`] bytes. Call it before any other use of the password.
pub fn check_size(password: &SecretText, field: &'static str) -> Result<()> {
    if password.expose().len() > MAX_BYTES {
        return Err(Error::invalid(field, format!("must be at most {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// The words that a password must not be made of: the texts of `context`, the words in them, and the name of this service.
/// The result is bounded for any context.
pub(super) fn words(context: &[&str]) -> Vec<String> {
    let mut words = vec!["countersign".to_owned()];
    for text in context {
        let parts = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|part| part.chars().count() >= 3);
        for part in std::iter::once(*text).chain(parts) {
            let part: String = part.chars().take(MAX_WORD).collect();
            if !part.is_empty() && words.len() < MAX_WORDS && !words.contains(&part) {
                words.push(part);
            }
        }
    }
    words
}
