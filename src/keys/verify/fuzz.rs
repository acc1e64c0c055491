//! Whatever the bytes, there is a verdict: no panic, and nothing is accepted but what was signed.
//!
//! A short pass of every test run; `PROPTEST_CASES=1000000 cargo test --release --lib keys::verify::fuzz` is a long one.

#![cfg(feature = "server")]

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::keys::fixtures::{claims, header, now, policy, signed, verifying, written};
use crate::keys::signing::SigningKey;
use crate::keys::verify::{claimed, verify};
use crate::keys::verifying::VerifyingKeys;
use crate::model::Algorithm;
use crate::secret::SystemEntropy;

struct Case {
    keys: Vec<SigningKey>,
    verifying: VerifyingKeys,
    good: Vec<String>,
}

static CASE: LazyLock<Case> = LazyLock::new(|| {
    let make = |algorithm| SigningKey::generate(algorithm, &SystemEntropy).unwrap();
    let keys = Vec::from(Algorithm::ALL.map(make));
    let good =
        |key: &SigningKey| written(key).map(|(header, payload)| signed(key, header.as_bytes(), payload.as_bytes()));
    Case {
        verifying: verifying(&keys),
        good: keys.iter().flat_map(good).collect(),
        keys,
    }
});

fn is_good(token: &str) -> bool {
    let _ = claimed(token);
    verify(token, &CASE.verifying, &policy(), now()).is_ok()
}

proptest! {
    #[test]
    fn any_text_has_a_verdict(text in "\\PC{0,300}") {
        prop_assert!(!is_good(&text));
    }

    #[test]
    fn any_three_parts_have_a_verdict(text in "[A-Za-z0-9_-]{0,200}\\.[A-Za-z0-9_-]{0,200}\\.[A-Za-z0-9_-]{0,100}") {
        prop_assert!(!is_good(&text));
    }

    #[test]
    fn a_changed_byte_is_never_accepted(which in 0..6_usize, at: prop::sample::Index, byte in 0x20..0x7f_u8) {
        let good = &CASE.good[which];
        let mut changed = good.clone().into_bytes();
        changed[at.index(good.len())] = byte;
        let changed = String::from_utf8(changed).unwrap();
        prop_assert_eq!(is_good(&changed), changed == *good);
    }

    #[test]
    fn pieces_put_together_anew_are_never_accepted(
        which in 0..6_usize,
        cuts in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let good = &CASE.good[which];
        let pieces: String = cuts.iter().map(|(a, b)| {
            let (a, b) = (a.index(good.len()), b.index(good.len()));
            &good[a.min(b)..a.max(b)]
        }).collect();
        prop_assert!(!is_good(&pieces));
    }

    /// Rightly signed rubbish: what a faulty issuer could send, and what reaches the parsers behind the signature.
    #[test]
    fn signed_rubbish_has_a_verdict(which in 0..2_usize, header in vec(any::<u8>(), 0..200), payload in vec(any::<u8>(), 0..400)) {
        prop_assert!(!is_good(&signed(&CASE.keys[which], &header, &payload)));
    }

    /// A byte of the payload's JSON is changed before it is signed: whatever comes of it, it is decided.
    #[test]
    fn signed_claims_with_a_changed_byte_have_a_verdict(at: prop::sample::Index, byte: u8) {
        let key = &CASE.keys[0];
        let mut payload = claims().to_string().into_bytes();
        let at = at.index(payload.len());
        payload[at] = byte;
        let _ = is_good(&signed(key, header(key).to_string().as_bytes(), &payload));
    }
}
