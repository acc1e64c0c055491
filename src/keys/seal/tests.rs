use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::secret::SystemEntropy;

fn master(keys: &[&SecretText]) -> MasterKeyring {
    let list: Vec<&str> = keys.iter().map(|key| key.expose()).collect();
    MasterKeyring::parse(&SecretText::new(list.join(","))).unwrap()
}

#[test]
fn the_first_key_seals_and_all_open() {
    let (old, new) = (
        MasterKeyring::generate(&SystemEntropy),
        MasterKeyring::generate(&SystemEntropy),
    );
    let item = SealedItem::Secret(SecretPurpose::Refresh, 1);
    let sealed = master(&[&old]).seal(item, b"secret", &SystemEntropy).unwrap();
    let both = master(&[&new, &old]);
    assert_eq!(*both.unseal(item, &sealed).unwrap(), b"secret");
    assert!(!both.is_current(&sealed));
    let resealed = both.seal(item, b"secret", &SystemEntropy).unwrap();
    assert!(both.is_current(&resealed));
    let old = master(&[&old]);
    let name = both.names().next().unwrap().to_owned();
    assert_eq!(old.unseal(item, &resealed), Err(UnsealError::UnknownMaster(name)));
}

#[test]
fn a_changed_bit_or_another_subject_does_not_open() {
    let master = master(&[&MasterKeyring::generate(&SystemEntropy)]);
    let item = SealedItem::Secret(SecretPurpose::Refresh, 1);
    let sealed = master.seal(item, &[7; 32], &SystemEntropy).unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(master.unseal(item, &changed).is_err(), "bit {bit}");
    }
    for len in 0..sealed.len() {
        assert!(master.unseal(item, &sealed[..len]).is_err(), "cut to {len}");
    }
    let id: KeyId = "x".repeat(43).parse().unwrap();
    for other in [
        SealedItem::Secret(SecretPurpose::Refresh, 2),
        SealedItem::Secret(SecretPurpose::Pepper, 1),
        SealedItem::SigningKey(&id, Algorithm::EdDsa),
        SealedItem::CheckValue("1"),
    ] {
        assert_eq!(master.unseal(other, &sealed), Err(UnsealError::Tampered), "{other}");
    }
    let signing = master
        .seal(SealedItem::SigningKey(&id, Algorithm::EdDsa), b"", &SystemEntropy)
        .unwrap();
    assert!(
        master
            .unseal(SealedItem::SigningKey(&id, Algorithm::Es256), &signing)
            .is_err()
    );
}

#[test]
fn a_master_key_of_the_wrong_length_is_named() {
    let good = MasterKeyring::generate(&SystemEntropy);
    for (bad, entry) in [
        (String::new(), "entry 1"),
        ("AAAA".to_owned(), "entry 1"),
        (format!("{},AAAA", good.expose()), "entry 2"),
        (format!("{},", good.expose()), "entry 2"),
        (format!("{}!", good.expose()), "entry 1"),
        (STANDARD.encode([0; 33]), "entry 1"),
    ] {
        let error = MasterKeyring::parse(&SecretText::new(bad)).unwrap_err();
        assert!(
            error.message.contains(entry) && error.message.contains("32 bytes"),
            "{error}"
        );
    }
    let spaced = format!(" {} , {}\n", good.expose(), good.expose().trim_end_matches('='));
    assert!(MasterKeyring::parse(&SecretText::new(spaced)).is_ok());
}

#[test]
fn a_master_key_in_either_base64_alphabet_padded_or_not_is_the_same_key() {
    let standard = "3q2+7wECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka/xw=";
    let url_safe = standard.replace('+', "-").replace('/', "_");
    assert_ne!(standard, url_safe);
    let name = |text: &str| {
        let master = MasterKeyring::parse(&SecretText::new(text)).unwrap();
        master.names().next().unwrap().to_owned()
    };
    for spelling in [
        standard.trim_end_matches('='),
        &url_safe,
        url_safe.trim_end_matches('='),
    ] {
        assert_eq!(name(spelling), name(standard), "{spelling}");
    }
}

#[test]
fn names_of_throttles_depend_on_the_master_key_and_the_name() {
    let (one, two) = (
        MasterKeyring::generate(&SystemEntropy),
        MasterKeyring::generate(&SystemEntropy),
    );
    let name = |keys: &[&SecretText], text: &str| master(keys).throttle_name(text.as_bytes());
    assert_eq!(name(&[&one], "alice"), name(&[&one, &two], "alice"));
    assert_ne!(name(&[&one], "alice"), name(&[&one], "bob"));
    assert_ne!(name(&[&one], "alice"), name(&[&two], "alice"));
}

#[test]
fn debug_shows_derived_names_only() {
    let key = MasterKeyring::generate(&SystemEntropy);
    let shown = format!("{:?}", master(&[&key]));
    assert!(!shown.contains(key.expose()) && shown.len() < 40, "{shown}");
}
