//! Hashes made by an attacker. The parser refuses them before any computation.

use proptest::prelude::*;
use rstest::rstest;

use super::super::stored::{StoredHash, check_imported};
use super::*;
use crate::model::ErrorKind;

const SALT_AND_TAG: &str = "MDEyMzQ1Njc4OWFiY2RlZg$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M";

#[rstest]
fn a_hash_that_costs_too_much_is_refused(
    #[values(
        "$argon2id$v=19$m=4194304,t=1,p=1$",
        "$argon2id$v=19$m=4294967295,t=1,p=1$",
        "$argon2id$v=19$m=262145,t=1,p=1$",
        "$argon2id$v=19$m=65536,t=65,p=1$",
        "$argon2id$v=19$m=64,t=1000000,p=1$",
        "$argon2id$v=19$m=64,t=0,p=1$",
        "$argon2id$v=19$m=65536,t=1,p=16777216$",
        "$argon2id$v=19$m=65536,t=1,p=17$",
        "$argon2id$v=19$m=65536,t=1,p=0$",
        "$argon2id$v=19$m=8,t=1,p=2$",
        "$argon2id$v=19$m=64,m=4194304,t=1,p=1$",
        "$argon2id$v=19$m=99999999999,t=1,p=1$",
        "$argon2id$v=19$m=64,t=1,p=1,x=1$",
        "$argon2id$v=19$m=64,t=1,p=1,data=AAAA$",
        "$argon2id$v=19$m=64,t=1,p=1,keyid=A$",
        "$argon2id$v=18$m=64,t=1,p=1$",
        "$argon2id$v=19$m=64,t=1$",
        "$argon2d$v=19$m=64,t=1,p=1$",
        "$scrypt$ln=19,r=8,p=1$",
        "$scrypt$ln=63,r=8,p=1$",
        "$scrypt$ln=256,r=8,p=1$",
        "$scrypt$ln=10,r=4294967295,p=4294967295$",
        "$scrypt$ln=10,r=8,p=1025$",
        "$scrypt$ln=10,r=0,p=1$",
        "$scrypt$ln=0,r=8,p=1$",
        "$pbkdf2-sha256$i=10000001$",
        "$pbkdf2-sha256$i=0$",
        "$pbkdf2-sha256$i=1000,l=31$",
        "$pbkdf2-sha1$i=1000$",
        "$md5$",
        "$"
    )]
    start: &str,
) {
    let hash = format!("{start}{SALT_AND_TAG}");
    StoredHash::parse(&hash).unwrap_err();
    let error = check_imported(&text(&hash), "password_hash").unwrap_err();
    assert_eq!(
        (error.kind, error.violations[0].field.as_ref()),
        (ErrorKind::InvalidRequest, "password_hash")
    );
    assert_eq!(verify(&parameters(&[], false), &hash, "password"), (false, false));
}

#[rstest]
fn a_malformed_hash_is_refused(
    #[values(
        "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAA",
        "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$AAAAAAAAAAAAAAAAAAAA",
        "$argon2id$v=19$m=64,t=1,p=1$MDEy$cBg8D2DungRB9k76szThf5ehfyBz991ay6PT8Srwk4M",
        "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg",
        "$argon2id$v=19$m=64,t=1,p=1",
        "$argon2id",
        "$argon2id$v=19$$$$$$",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMÜ",
        "$2b$ÜÜ$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWM",
        "$2b$17$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2b$31$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2b$03$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2b$99$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2x$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWM",
        "$2b$12$",
        "pbkdf2_sha256$1000$seasalt8chars$Kbs=",
        "pbkdf2_sha256$1000$salt$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=",
        "pbkdf2_sha256$+1000$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=",
        "pbkdf2_sha256$99999999$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=",
        "pbkdf2_sha256$1000$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=$",
        "pbkdf2_sha256$1000$seasalt8chars",
        "plaintext",
        "\u{0}",
        " "
    )]
    hash: &str,
) {
    StoredHash::parse(hash).unwrap_err();
    check_imported(&text(hash), "password_hash").unwrap_err();
    assert_eq!(verify(&parameters(&[], false), hash, "password"), (false, false));
}

#[test]
fn a_long_text_is_not_even_read() {
    let hash = format!("$argon2id$v=19$m=64,t=1,p=1${}", "A".repeat(1 << 20));
    StoredHash::parse(&hash).unwrap_err();
    check_imported(&text(""), "password_hash").unwrap_err();
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in ".{0,80}") {
        let _ = StoredHash::parse(&text);
    }

    #[test]
    fn nothing_like_a_hash_makes_the_reader_panic(
        name in "\\$?(2[abxy]|argon2(id|i|d)|scrypt|pbkdf2[-_]sha(256|512))",
        parts in prop::collection::vec("[$=,a-zA-Z0-9+/.é]{0,30}", 0..6),
    ) {
        let _ = StoredHash::parse(&format!("{name}${}", parts.join("$")));
    }

    #[test]
    fn whatever_is_accepted_is_affordable(m in any::<u32>(), t in any::<u32>(), p in any::<u32>()) {
        let hash = format!("$argon2id$v=19$m={m},t={t},p={p}${SALT_AND_TAG}");
        if StoredHash::parse(&hash).is_ok() {
            prop_assert!(m <= 1 << 18 && u64::from(m) * u64::from(t) <= 1 << 22 && p <= 16);
        }
    }
}
