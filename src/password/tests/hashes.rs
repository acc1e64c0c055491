//! Published vectors, hashes of other implementations, and our own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rstest::rstest;
use serde_json::Value;

use super::super::hash::{Cost, ScratchMemory};
use super::super::stored::{StoredHash, check_imported};
use super::*;
use crate::model::ErrorKind;
use crate::secret::SystemEntropy;

#[test]
fn argon2_is_that_of_the_reference_implementation() {
    let file = include_str!("../../../tests/vectors/argon2/phc_reference.json");
    let vectors: Value = serde_json::from_str(file).unwrap();
    let (parameters, mut memory, mut refused) = (parameters(&[], false), ScratchMemory::default(), 0);
    for vector in vectors["vectors"].as_array().unwrap() {
        let phc = vector["phc"].as_str().unwrap();
        if vector["m_kib"].as_u64().unwrap() > u64::from(crate::config::MAX_MEMORY_KIB) {
            StoredHash::parse(phc).unwrap_err();
            refused += 1;
            continue;
        }
        let stored = StoredHash::parse(phc).unwrap();
        let password = vector["password"].as_str().unwrap();
        assert!(
            stored
                .matches(password.as_bytes(), parameters.peppers(), &mut memory)
                .unwrap(),
            "{phc}"
        );
        if vector["m_kib"].as_u64().unwrap() < 1_024 {
            assert!(
                !stored.matches(b"Password", parameters.peppers(), &mut memory).unwrap(),
                "{phc}"
            );
        }
    }
    assert_eq!(refused, 2);
}

#[test]
fn bcrypt_is_that_of_the_python_package() {
    let file = include_str!("../../../tests/vectors/bcrypt/pyca_bcrypt.json");
    let vectors: Value = serde_json::from_str(file).unwrap();
    let (parameters, mut memory) = (parameters(&[], false), ScratchMemory::default());
    for vector in vectors["vectors"].as_array().unwrap() {
        let hash = vector["hash"].as_str().unwrap();
        let password = STANDARD.decode(vector["password_b64"].as_str().unwrap()).unwrap();
        let stored = StoredHash::parse(hash).unwrap();
        assert!(
            stored.matches(&password, parameters.peppers(), &mut memory).unwrap(),
            "{hash}"
        );
        assert!(
            !stored.matches(b"another", parameters.peppers(), &mut memory).unwrap(),
            "{hash}"
        );
    }
}

/// Made by Python's `hashlib`; the second and fourth are of text in NFD.
#[rstest]
#[case::scrypt(
    "correct horse",
    "$scrypt$ln=10,r=8,p=2$MDEyMzQ1Njc4OWFiY2RlZg$I4YuHpx/6xJJ4+sk74hQU+KhW++gPE8aHzXbHijxgzg"
)]
#[case::sha256(
    "correct horse",
    "$pbkdf2-sha256$i=1000,l=32$MDEyMzQ1Njc4OWFiY2RlZg$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M"
)]
#[case::sha512(
    "correct horse",
    "$pbkdf2-sha512$i=1000,l=64$MDEyMzQ1Njc4OWFiY2RlZg$OM0FAoIqCVK1sWtxDiffVlBejtLa+ks4TP71JiecwuSZCG8iLbnlIEPOMoVX+i2B2wkSxjQ8CRGR9OkNGuIPMQ"
)]
#[case::django(
    "correct horse",
    "pbkdf2_sha256$1000$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs="
)]
#[case::raw_bytes(
    "pa\u{308}sswo\u{308}rd-a\u{30a}ccented",
    "$pbkdf2-sha256$i=1000$MDEyMzQ1Njc4OWFiY2RlZg$Fz1Vj63ZGE6wYY7Wu3tFLy1a22sNoGExejJJSRnq7hk"
)]
fn imported_hashes_match_and_are_to_be_replaced(#[case] password: &str, #[case] hash: &str) {
    let parameters = parameters(&[], false);
    assert_eq!(verify(&parameters, hash, password), (true, true));
    assert_eq!(verify(&parameters, hash, "correct horsf"), (false, false));
    check_imported(&text(hash), "password_hash").unwrap();
    let composed = "p\u{e4}ssw\u{f6}rd-\u{e5}ccented";
    assert_eq!(
        verify(&parameters, hash, composed),
        (false, false),
        "the bytes as they came count"
    );
}

#[test]
fn ours_is_one_password_however_it_is_typed() {
    let parameters = parameters(&[], false);
    let mut memory = ScratchMemory::default();
    let hash = parameters
        .hash(&text("pa\u{308}ssword"), &SystemEntropy, &mut memory)
        .unwrap();
    assert!(
        hash.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"),
        "{}",
        hash.expose()
    );
    assert_eq!(verify(&parameters, hash.expose(), "p\u{e4}ssword"), (true, false));
    assert_eq!(verify(&parameters, hash.expose(), "pa\u{308}ssword"), (true, false));
    assert_eq!(verify(&parameters, hash.expose(), "passsword"), (false, false));
    let again = parameters
        .hash(&text("pa\u{308}ssword"), &SystemEntropy, &mut memory)
        .unwrap();
    assert_ne!(hash.expose(), again.expose(), "salted");
}

#[test]
fn an_imported_argon2_hash_of_other_bytes_matches_and_is_replaced() {
    let parameters = parameters(&[], false);
    let (raw, salt, mut tag) = ("pa\u{308}ssword", [7; 16], [0; 32]);
    let (cost, mut memory) = (parameters.cost(), ScratchMemory::default());
    cost.compute(raw.as_bytes(), &salt, parameters.peppers(), &mut memory, &mut tag)
        .unwrap();
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes);
    let hash = format!("$argon2id$v=19$m=64,t=1,p=1${}${}", encode(&salt), encode(&tag));
    assert_eq!(verify(&parameters, &hash, raw), (true, true));
    assert_eq!(verify(&parameters, &hash, "p\u{e4}ssword"), (false, false));
}

#[test]
fn another_cost_asks_for_a_new_hash() {
    let old = parameters(&[], false);
    let hash = old
        .hash(&text("password"), &SystemEntropy, &mut ScratchMemory::default())
        .unwrap();
    for change in [
        |config: &mut crate::config::Password| config.memory_kib = 128,
        |config: &mut crate::config::Password| config.iterations = 2,
        |config: &mut crate::config::Password| (config.parallelism, config.memory_kib) = (2, 64),
    ] {
        let mut config = config();
        change(&mut config);
        let new = HashParameters::new(&config, Peppers::default());
        assert_eq!(verify(&new, hash.expose(), "password"), (true, true));
        assert_eq!(verify(&new, hash.expose(), "passwort"), (false, false));
    }
}

#[test]
fn a_cheaper_hash_is_topped_up_to_the_current_work_within_the_current_memory() {
    let cost = |memory_kib, iterations, parallelism| {
        let mut config = config();
        (config.memory_kib, config.iterations, config.parallelism) = (memory_kib, iterations, parallelism);
        HashParameters::new(&config, Peppers::default()).cost()
    };
    let work = |cost: Cost| u64::from(cost.memory_kib) * u64::from(cost.iterations);
    for (now, before) in [
        ((19_456, 2, 1), (19_456, 1, 1)),
        ((65_536, 3, 1), (19_456, 2, 1)),
        ((65_536, 1, 4), (1_024, 50, 1)),
        ((64, 1_000, 1), (64, 1, 1)),
        ((262_144, 16, 1), (64, 1, 1)),
        ((4_096, 3, 1), (12_000, 1, 1)),
    ] {
        let (now, before) = (cost(now.0, now.1, now.2), cost(before.0, before.1, before.2));
        let missing = now.beyond(&before).unwrap();
        assert!(missing.memory_kib <= now.memory_kib, "{missing:?}");
        let (total, wanted) = (work(missing) + work(before), work(now));
        // Rounding loses less than one block a pass.
        assert!(wanted - total < u64::from(missing.iterations), "{total} of {wanted}");
    }
    for (now, before) in [
        ((64, 2, 1), (64, 2, 1)),
        ((64, 1, 1), (128, 1, 1)),
        ((64, 1, 1), (60, 1, 1)),
    ] {
        let (now, before) = (cost(now.0, now.1, now.2), cost(before.0, before.1, before.2));
        assert_eq!(now.beyond(&before), None);
    }
    // The memory tells that the work was done.
    let mut config = config();
    (config.memory_kib, config.iterations) = (128, 1);
    let hash = parameters(&[], false).hash(&text("password"), &SystemEntropy, &mut ScratchMemory::default());
    let (new, mut memory) = (
        HashParameters::new(&config, Peppers::default()),
        ScratchMemory::default(),
    );
    (config.memory_kib, config.iterations) = (1_024, 1);
    let more = HashParameters::new(&config, Peppers::default());
    let hash = hash.unwrap();
    assert!(new.verify(Some(&hash), &text("password"), &mut memory).unwrap().matches);
    assert_eq!(memory.blocks_held(), 64, "64 more");
    assert!(
        !more
            .verify(Some(&hash), &text("passwort"), &mut memory)
            .unwrap()
            .matches
    );
    assert_eq!(memory.blocks_held(), 960, "960 more");
}

#[test]
fn a_pepper_is_named_by_the_hash_and_can_be_rotated() {
    let (plain, first, second) = (
        parameters(&[], false),
        parameters(&[1], true),
        parameters(&[1, 2], true),
    );
    let mut memory = ScratchMemory::default();
    let hash = first.hash(&text("password"), &SystemEntropy, &mut memory).unwrap();
    assert!(hash.expose().contains(",keyid=AAAAAQ$"), "{}", hash.expose());
    assert_eq!(verify(&first, hash.expose(), "password"), (true, false));
    assert_eq!(verify(&second, hash.expose(), "password"), (true, true));
    assert_eq!(
        verify(&parameters(&[1], false), hash.expose(), "password"),
        (true, true),
        "switched off"
    );
    let newer = second.hash(&text("password"), &SystemEntropy, &mut memory).unwrap();
    assert!(newer.expose().contains(",keyid=AAAAAg$"));
    let without = plain.hash(&text("password"), &SystemEntropy, &mut memory).unwrap();
    assert_eq!(
        verify(&first, without.expose(), "password"),
        (true, true),
        "switched on"
    );
    // A missing pepper is an error of the service, not a wrong password.
    let error = plain.verify(Some(&hash), &text("password"), &mut memory).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(check_imported(&hash, "password_hash").is_err());
}

#[test]
fn the_memory_of_a_large_hash_is_given_back() {
    let (parameters, mut memory) = (parameters(&[], false), ScratchMemory::default());
    let stored =
        StoredHash::parse("$argon2id$v=19$m=4096,t=1,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ");
    stored
        .unwrap()
        .matches(b"password", parameters.peppers(), &mut memory)
        .unwrap();
    assert_eq!(memory.blocks_held(), 4_096);
    memory.trim(&parameters);
    assert_eq!(memory.blocks_held(), 64);
}

#[test]
fn an_unknown_user_costs_as_much_as_a_known_one() {
    let parameters = parameters(&[], false);
    for stored in [None, Some(text("")), Some(text("$argon2id$v=19$m=4294967295,t=1,p=1$"))] {
        let mut memory = ScratchMemory::default();
        let verdict = parameters
            .verify(stored.as_ref(), &text("password"), &mut memory)
            .unwrap();
        assert!(!verdict.matches && !verdict.rehash_needed);
        assert_eq!(memory.blocks_held(), 64);
    }
}
