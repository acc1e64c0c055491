//! What a new password must be (NIST SP 800-63B-4 §3.1.1): long enough, and not one that is guessed first. No rules
//! about digits or symbols: they make passwords worse.

use zxcvbn::{Score, zxcvbn};

use super::hash::normalised;
use crate::config;
use crate::model::{Error, ErrorKind, Result};
use crate::secret::SecretText;

/// The longest password, in bytes as sent.
pub const MAX_BYTES: usize = 1_024;

/// How many code points zxcvbn looks at. Its cost grows steeply with the length of a hostile text: 24 code points of
/// look-alikes (`4@8({[<3…`) were measured to cost two or three hashes of the default cost, 100 of them seventy. If the
/// beginning is hard to guess, so is the whole.
const WINDOW: usize = 24;

/// Words of the context longer than this are cut; more than so many are left out.
const MAX_WORD: usize = 64;
const MAX_WORDS: usize = 32;

/// What a new password must be.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    min_length: usize,
}

impl Policy {
    /// The configured policy.
    pub(super) fn new(config: &config::Password) -> Self {
        Self {
            min_length: config.min_length,
        }
    }

    /// Whether it is long enough, and short enough: what costs nothing to find.
    pub(super) fn check_length(&self, password: &SecretText, field: &'static str) -> Result<()> {
        check_size(password, field)?;
        if normalised(password).chars().count() < self.min_length {
            let problem = format!("must have at least {} characters", self.min_length);
            return Err(Error::at(ErrorKind::PasswordTooWeak, field, problem));
        }
        Ok(())
    }
}

/// Whether it is not among the first that are guessed; `words` are what it must not be made of. Takes up to as long as a
/// hash, so it is for a hashing thread.
pub(super) fn check_guessable(password: &SecretText, field: &'static str, words: &[String]) -> Result<()> {
    let text = normalised(password);
    let end = text.char_indices().nth(WINDOW).map_or(text.len(), |(end, _)| end);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if zxcvbn(&text[..end], &words).score() >= Score::Three {
        return Ok(());
    }
    let problem = "is among the first that are guessed: too common, too regular, or made of the user's own names";
    Err(Error::at(ErrorKind::PasswordTooWeak, field, problem))
}

/// Whether a password is short enough to be looked at. Asked before anything else is done with it.
pub fn check_size(password: &SecretText, field: &'static str) -> Result<()> {
    if password.expose().len() > MAX_BYTES {
        return Err(Error::invalid(field, format!("must be at most {MAX_BYTES} bytes")));
    }
    Ok(())
}

/// The context and the words in it, with our own name; bounded, whatever the context is.
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
