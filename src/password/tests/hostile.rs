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
        "$argon2d$v=19$m=262145,t=1,p=1$",
        "$scrypt$ln=19,r=8,p=1$",
        "$scrypt$ln=63,r=8,p=1$",
        "$scrypt$ln=256,r=8,p=1$",
        "$scrypt$ln=10,r=4294967295,p=4294967295$",
        "$scrypt$ln=10,r=8,p=1025$",
        "$scrypt$ln=10,r=0,p=1$",
        "$scrypt$ln=0,r=8,p=1$",
        "$scrypt$ln=1,r=4096,p=513$",
        "$pbkdf2-sha256$i=10000001$",
        "$pbkdf2-sha256$i=0$",
        "$pbkdf2-sha256$i=1000,l=31$",
        "$pbkdf2-sha1$i=10000001$",
        "$pbkdf2$10000001$",
        "$pbkdf2-sha512$0$",
        "$pbkdf2-sha3$i=1000$",
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
        "$2x$17$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2c$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWM",
        "$2b$12$",
        "pbkdf2_sha256$1000$seasalt8chars$Kbs=",
        "pbkdf2_sha256$1000$salt$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=",
        "pbkdf2_sha256$+1000$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=",
        "pbkdf2_sha256$99999999$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=",
        "pbkdf2_sha256$1000$seasalt8chars$Kbs+shwm/BgtOlXWqIkWJHvF6dUdxdZ4ebxqv/OKXUs=$",
        "pbkdf2_sha256$1000$seasalt8chars",
        "bcrypt_sha256$$2b$17$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "bcrypt_sha256$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$bcrypt-sha256$v=2,t=2b,r=17$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        "$bcrypt-sha256$v=3,t=2b,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        "$bcrypt-sha256$v=2,t=2x,r=12$n79VH.0Q2TMWmt3Oqt9uku$Kq4Noyk3094Y2QlB8NdRT8SvGiI4ft2",
        "$wp$2y$17$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW",
        "$wp$",
        "scrypt:32769:8:1$saltsaltsaltsalt$eeb5a435f1a708d3419307af290c52520a34a5eb26fd94177d8ef35931bb2b15",
        "scrypt:1073741824:8:1$saltsaltsaltsalt$eeb5a435f1a708d3419307af290c52520a34a5eb26fd94177d8ef35931bb2b15",
        "scrypt:1024:8:2$saltsaltsaltsalt$eeb5a435f1a708d3419307af290c52520a34a5eb26fd94177d8ef35931bb2b1",
        "scrypt$1073741824$saltsaltsaltsalt$8$1$6FTG26KBp7JedDUEzaQ+gH2guhM1LryoS9o+yv8B+lM=",
        "pbkdf2:sha256:10000001$saltsaltsaltsalt$e9923ca458db36cf13d333c851097f9ea8178a842db6143fe37301ccb2502965",
        "pbkdf2:md5:1000$saltsaltsaltsalt$e9923ca458db36cf13d333c851097f9e",
        "pbkdf2:sha256$saltsaltsaltsalt$e9923ca458db36cf13d333c851097f9ea8178a842db6143fe37301ccb2502965",
        // 80,000,000 rounds of SHA-1 in four blocks.
        "pbkdf2:sha1:10000000$saltsaltsaltsalt$eeb5a435f1a708d3419307af290c52520a34a5eb26fd94177d8ef35931bb2b154ec02e0803a4e5d9c5141dfc4589d8395277771cb818d4399cde9756e4ca55ca",
        // ASP.NET Identity: 2^31 iterations, an unknown digest, a salt longer than the rest.
        "AQAAAAGAAAAAAAAAEF1bCfbcstU6X//GDErA1V+aiF640KgdoZkMfjkKbeIFpFBWIaZue/Xiwa+BuOCZvw==",
        "AQAAAAMAAAPoAAAAEF1bCfbcstU6X//GDErA1V+aiF640KgdoZkMfjkKbeIFpFBWIaZue/Xiwa+BuOCZvw==",
        "AQAAAAEAAAPo/////11bCfbcstU6X//GDErA1V+aiF640KgdoZkMfjkKbeIFpFBWIaZue/Xiwa+BuOCZvw==",
        "ALCR30M88oiiKJ/U",
        "AQ==",
        "$P$J2.qIBDR7PWlZ74w6o647SKRCymcDn1",
        "$P$42.qIBDR7PWlZ74w6o647SKRCymcDn1",
        "$P$62.qIBDR7PWlZ74w6o647SKRCymcDn",
        "$P$62.qIBDR7PWlZ74w6o647SKRCymcDn1x",
        "$P$62.qIBDR7PWlZ74w6o647SKRCymcDn=",
        "$6$rounds=1000001$saltsalt$uW74NcqsArk6u4a3WNgSRd3qGwOkWbxh0J7mK7En12uqnJbWr2NohC3nUAXGyqT2fM15/iMCFoKEGYjjhZBU51",
        "$6$rounds=999$saltsalt$uW74NcqsArk6u4a3WNgSRd3qGwOkWbxh0J7mK7En12uqnJbWr2NohC3nUAXGyqT2fM15/iMCFoKEGYjjhZBU51",
        "$6$rounds=4294967296$saltsalt$uW74NcqsArk6u4a3WNgSRd3qGwOkWbxh0J7mK7En12uqnJbWr2NohC3nUAXGyqT2fM15/iMCFoKEGYjjhZBU51",
        "$6$saltsaltsaltsalts$uW74NcqsArk6u4a3WNgSRd3qGwOkWbxh0J7mK7En12uqnJbWr2NohC3nUAXGyqT2fM15/iMCFoKEGYjjhZBU51",
        "$5$saltsalt$uW74NcqsArk6u4a3WNgSRd3qGwOkWbxh0J7mK7En12uqnJbWr2NohC3nUAXGyqT2fM15/iMCFoKEGYjjhZBU51",
        "$6$$",
        "$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/",
        "{SSHA}qzg7amC+QhmwhtDTM7+02MztDcE=",
        "{SHA}qzg7amC+QhmwhtDTM7+02MztDcE=",
        "{CRYPT}{SSHA}qzg7amC+QhmwhtDTM7+02MztDcFHqJXS",
        "{CRYPT}abJnggxhB/yWI",
        "{SSHA",
        "$fbscrypt$v=1,n=31,r=8,p=1,ss=Bw==,sk=YWJjZGVmZ2hpamtsbW5vcA==$32KO3nZpEl3YQw==$YWJjZGVmZ2hpamtsbW5vcA==",
        "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=$32KO3nZpEl3YQw==$",
        "$fbscrypt$v=1,n=14,r=8,p=1,ss=Bw==,sk=YWJj$32KO3nZpEl3YQw==$YWJjZGVmZ2hpamtsbW5vcA==",
        "$fbscrypt$v=2,n=14,r=8,p=1,ss=Bw==,sk=YWJjZGVmZ2hpamtsbW5vcA==$32KO3nZpEl3YQw==$YWJjZGVmZ2hpamtsbW5vcA==",
        "$fbscrypt$n=14,r=8,p=1$32KO3nZpEl3YQw==$YWJjZGVmZ2hpamtsbW5vcA==",
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
        name in "\\$?(2[abxy]|argon2(id|i|d)?|scrypt(:2:8:1)?|pbkdf2([-_]sha(1|256|512))?|pbkdf2:sha1:9|[56PH]|wp(\\$2y)?|\
                 fbscrypt|bcrypt([-_]sha256)?)|\\{(SSHA(256|512)?|CRYPT)\\}(\\$6)?",
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
