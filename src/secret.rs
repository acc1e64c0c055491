//! Secrets and randomness.
//!
//! A secret is zeroed when it is dropped, never printed, and compared in constant time. [`SecretText`] holds passwords and
//! tokens; [`SecretBytes`] holds key material.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The largest file from which a secret is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// A source of randomness.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills `out` with unpredictable bytes.
    ///
    /// # Panics
    /// If the operating system cannot provide randomness, because no key or token may be created then.
    fn fill(&self, out: &mut [u8]);
}

/// The random generator of AWS-LC, which the operating system seeds.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(clippy::disallowed_methods, reason = "the one place that asks for randomness")]
    #[expect(clippy::expect_used, reason = "a machine without randomness must not create tokens")]
    fn fill(&self, out: &mut [u8]) {
        aws_lc_rs::rand::fill(out).expect("the operating system must provide randomness");
    }
}

/// `N` random bytes.
#[must_use]
pub fn random<const N: usize>(entropy: &dyn Entropy) -> [u8; N] {
    let mut out = [0; N];
    entropy.fill(&mut out);
    out
}

/// Secret text, such as a password, a token or a client secret.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps the text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text. Call it only where the text is used: every caller is a place where the secret could leak.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the text is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a secret from bytes that were typed, piped or saved by an editor: without the byte order mark at the start, and
    /// without the blanks and line ends at the end. Every file and pipe with a secret is read in this way.
    ///
    /// # Errors
    /// The problem, if the bytes are not UTF-8. It contains none of them.
    pub fn from_input(bytes: &[u8]) -> Result<Self, &'static str> {
        if matches!(bytes, [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
            return Err("is UTF-16; save it as UTF-8");
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8")?;
        Ok(Self::new(text.trim_end_matches(|c: char| c.is_ascii_whitespace())))
    }

    /// Reads the file of a secret; see [`SecretText::from_input`].
    ///
    /// # Errors
    /// Errors of the system, and `InvalidData` for a file over 1 MiB or one that is not UTF-8.
    pub fn read_file(path: &Path) -> io::Result<Self> {
        let invalid = |problem| io::Error::new(io::ErrorKind::InvalidData, problem);
        let mut file = File::open(path)?;
        let size = usize::try_from(file.metadata()?.len().min(MAX_FILE)).unwrap_or_default();
        // Allocate once: a growing vector would leave copies of the secret in freed memory.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
        (&mut file).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(invalid("larger than 1 MiB"));
        }
        Self::from_input(&bytes).map_err(invalid)
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl PartialEq for SecretText {
    fn eq(&self, other: &Self) -> bool {
        same(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl Eq for SecretText {}

/// A secret that can be replaced while it is in use: one value, or several with blanks or line ends between them. Clones share
/// it.
#[derive(Clone, Debug)]
pub struct SharedSecret(Arc<RwLock<SecretText>>);

impl SharedSecret {
    /// Shares this secret.
    #[must_use]
    pub fn new(secret: SecretText) -> Self {
        Self(Arc::new(RwLock::new(secret)))
    }

    /// Replaces it for all clones.
    pub fn replace(&self, secret: SecretText) {
        *self.0.write() = secret;
    }

    /// Whether `given` is one of the values. The time depends on the lengths of the values, not on their contents.
    #[must_use]
    pub fn accepts(&self, given: &[u8]) -> bool {
        let secret = self.0.read();
        let values = secret.expose().split_ascii_whitespace();
        values.fold(false, |accepted, value| accepted | same(value.as_bytes(), given))
    }
}

/// `N` bytes of key material.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes<const N: usize>([u8; N]);

impl<const N: usize> SecretBytes<N> {
    /// Wraps the bytes.
    #[must_use]
    pub const fn new(bytes: [u8; N]) -> Self {
        Self(bytes)
    }

    /// `N` random bytes.
    #[must_use]
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(random(entropy))
    }

    /// The bytes themselves.
    #[must_use]
    pub const fn expose(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for SecretBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether two byte strings are equal. The time depends only on their lengths, not on their contents.
#[must_use]
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// The SHA-256 of `bytes`. It is the stored form of secrets of 256 random bits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_never_shows_a_secret() {
        let text = SecretText::new("hunter2-canary");
        let bytes = SecretBytes::new([0x5a; 32]);
        let shown = format!("{text:?} {bytes:?} {:?}", Some(text.clone()));
        assert!(!shown.contains("canary") && !shown.contains("90"), "{shown}");
    }

    #[test]
    fn input_loses_its_byte_order_mark_and_what_ends_its_line() {
        for (input, expected) in [
            (&b"hunter2"[..], "hunter2"),
            (b"hunter2\n", "hunter2"),
            (b"hunter2 \t\r\n\r\n", "hunter2"),
            (b"\xef\xbb\xbfhunter2\n", "hunter2"),
            (b"two words ", "two words"),
            (b" \n", ""),
        ] {
            assert_eq!(SecretText::from_input(input).unwrap().expose(), expected, "{input:?}");
        }
        for (bad, problem) in [
            (&b"\xff\xfeh\0"[..], "UTF-16"),
            (b"\xfe\xff\0h", "UTF-16"),
            (b"h\xff", "not UTF-8"),
        ] {
            assert!(SecretText::from_input(bad).unwrap_err().contains(problem), "{bad:?}");
        }
    }

    #[test]
    fn a_shared_secret_accepts_each_of_its_values() {
        let secret = SharedSecret::new("one".into());
        let other = secret.clone();
        assert!(other.accepts(b"one") && !other.accepts(b"two") && !other.accepts(b""));
        secret.replace("two\none".into());
        assert!(other.accepts(b"one") && other.accepts(b"two") && !other.accepts(b"two\none"));
        secret.replace("two".into());
        assert!(!other.accepts(b"one") && other.accepts(b"two"));
    }

    #[test]
    fn comparison_looks_at_content_and_length() {
        assert!(same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd"));
        assert!(!same(b"abc", b"abcd"));
    }

    #[test]
    fn sha256_gives_the_published_value() {
        // The example "abc" of FIPS 180-4.
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
