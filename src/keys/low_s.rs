//! Low-S form of ES256 signatures, so that a token has one valid signature only.
//!
//! For each ECDSA signature (r, s) there is a second valid one, (r, n − s), and computing it needs no key. This service
//! signs with the smaller s and accepts no other, so a valid token cannot be changed into different bytes that are valid
//! too. Other verifiers accept the low-S form as well.

/// The order n of P-256 (FIPS 186-5, SP 800-186 §3.2.1.3), big-endian.
#[cfg(feature = "server")]
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// ⌊n / 2⌋.
const HALF: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xde, 0x73, 0x7d,
    0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// Whether an ES256 signature (r ‖ s, RFC 7518 §3.4) has 64 bytes and the smaller s. Its time may depend on the signature,
/// which is public.
pub(super) fn is_low(signature: &[u8]) -> bool {
    signature.len() == 64 && signature[32..] <= HALF[..]
}

/// Replaces s by n − s if that is smaller. `signature` is a valid r ‖ s.
#[cfg(feature = "server")]
pub(super) fn lower(signature: &mut [u8]) {
    if signature.len() == 64 && !is_low(signature) {
        negate(signature);
    }
}

/// Replaces s by n − s.
#[cfg(feature = "server")]
pub(super) fn negate(signature: &mut [u8]) {
    let mut borrow = false;
    for (s, n) in signature[32..].iter_mut().zip(ORDER).rev() {
        let (difference, first) = n.overflowing_sub(*s);
        let (difference, second) = difference.overflowing_sub(u8::from(borrow));
        *s = difference;
        borrow = first || second;
    }
}

#[cfg(test)]
#[cfg(feature = "server")]
mod tests {
    use super::*;

    #[test]
    fn half_is_half_of_the_order() {
        let mut doubled = [0; 32];
        let mut carry = 1; // n is odd: n = 2·⌊n/2⌋ + 1
        for (out, half) in doubled.iter_mut().zip(HALF).rev() {
            let sum = u16::from(half) * 2 + carry;
            *out = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!((doubled, carry), (ORDER, 0));
    }

    #[test]
    fn the_larger_s_becomes_the_smaller_one() {
        let mut signature = [0; 64];
        signature[32..].copy_from_slice(&ORDER);
        signature[63] -= 1; // s = n − 1, so n − s = 1
        assert!(!is_low(&signature));
        lower(&mut signature);
        assert!(is_low(&signature));
        assert_eq!((&signature[32..63], signature[63]), (&[0; 31][..], 1));
        let before = signature;
        lower(&mut signature);
        assert_eq!(signature, before);
    }
}
