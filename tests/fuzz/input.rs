//! Reads the parts of an input, and looks for an input in texts that must not quote it.

/// The byte that separates the parts of an input.
pub(crate) const SEPARATOR: u8 = 0xff;

/// The part before the first separator, and the rest.
pub(crate) fn split(input: &[u8]) -> (&[u8], &[u8]) {
    let at = input.iter().position(|byte| *byte == SEPARATOR).unwrap_or(input.len());
    (&input[..at], input.get(at + 1..).unwrap_or_default())
}

/// As many bytes as a number has, zeros where the input ends.
pub(crate) fn take<const N: usize>(input: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let (first, rest) = input.split_at(input.len().min(N));
    bytes[..first.len()].copy_from_slice(first);
    *input = rest;
    bytes
}

/// The next bytes, after one byte with their number.
pub(crate) fn take_slice<'a>(input: &mut &'a [u8]) -> &'a [u8] {
    let [len] = take(input);
    let (first, rest) = input.split_at(input.len().min(len.into()));
    *input = rest;
    first
}

/// The shortest piece of a secret that counts as a leak, in characters. Private keys and hashes are longer, and no word of a
/// message is as long.
const PIECE: usize = 33;

/// Panics if `message` has a piece of `secret`. Only the characters of keys and hashes in base64 or hexadecimal count.
pub(crate) fn assert_hidden(message: &str, secret: &[u8]) {
    let is_of_secret = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.".contains(byte);
    for piece in secret.windows(PIECE).filter(|piece| piece.iter().all(is_of_secret)) {
        let piece = std::str::from_utf8(piece).unwrap();
        assert!(!message.contains(piece), "quotes {piece:?}: {message}");
    }
}
