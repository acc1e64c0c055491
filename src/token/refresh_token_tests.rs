//! The refresh token's format.

use proptest::prelude::*;

use super::*;

fn key(byte: u8) -> RefreshKey {
    RefreshKey::new(&SecretBytes::new([byte; 32]))
}

fn token(client: &str, generation: u32) -> RefreshToken {
    RefreshToken {
        user: UserId(Uuid::from_u128(1)),
        session: SessionId(Uuid::from_u128(2)),
        generation,
        epochs: Epochs {
            global: 3,
            user: -4,
            client: 5,
        },
        expires: UnixMillis(1_800_000_000_000),
        client: ClientId::parse(client, "client_id").unwrap(),
        secret: SecretBytes::new([9; 32]),
    }
}

#[test]
fn a_token_reads_back_as_it_was_written() {
    let key = key(7);
    for client in ["web", &"x".repeat(64)] {
        let text = token(client, 41).encode(3, &key);
        let read = RefreshToken::decode(text.expose(), |id| (id == 3).then_some(&key)).unwrap();
        assert_eq!(
            (read.generation, read.client.as_str(), read.epochs.user),
            (41, client, -4)
        );
        assert_eq!(read.encode(3, &key), text, "the same token is the same bytes");
        assert!(
            RefreshToken::decode(text.expose(), |_| None).is_none(),
            "no tag proves it"
        );
        assert_eq!(RefreshToken::unverified(text.expose()).unwrap().generation, 41);
        assert!(
            (PREFIX.len() + 172..=MAX_LEN).contains(&text.expose().len()),
            "{}",
            text.expose().len()
        );
    }
}

#[test]
fn the_successor_differs_in_generation_tag_and_checksum_only() {
    let key = key(7);
    let bytes = |generation| {
        let text = token("web", generation).encode(1, &key);
        URL_SAFE_NO_PAD
            .decode(text.expose().strip_prefix(PREFIX).unwrap())
            .unwrap()
    };
    let (first, second) = (bytes(0), bytes(1));
    let tail = first.len() - TAG - CRC;
    let differing: Vec<usize> = (0..tail).filter(|i| first[*i] != second[*i]).collect();
    assert_eq!(differing, [40], "the last byte of the generation");
}

#[test]
fn another_deployment_a_raised_generation_and_a_swapped_user_are_refused() {
    let (ours, theirs) = (key(7), key(8));
    let text = token("web", 0).encode(1, &theirs);
    assert!(
        RefreshToken::decode(text.expose(), |_| Some(&ours)).is_none(),
        "another deployment's key"
    );
    assert!(RefreshToken::decode(text.expose(), |_| None).is_none(), "a removed key");
    let good = token("web", 0).encode(1, &ours);
    let bytes = URL_SAFE_NO_PAD
        .decode(good.expose().strip_prefix(PREFIX).unwrap())
        .unwrap();
    // An attacker can correct the checksum after a change, but not the tag.
    for at in 0..bytes.len() - CRC {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        let end = forged.len() - CRC;
        let crc = crc32fast::hash(&forged[..end]);
        forged[end..].copy_from_slice(&crc.to_be_bytes());
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&forged));
        assert!(RefreshToken::decode(&text, |_| Some(&ours)).is_none(), "byte {at}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let shown = format!("{:?}", token("web", 0));
    assert!(!shown.contains("09") && !shown.contains("[9"), "{shown}");
}

proptest! {
    #[test]
    fn anything_else_is_refused_without_panic(text in "(csr_)?[A-Za-z0-9_=.-]{0,300}") {
        let key = key(7);
        prop_assert!(RefreshToken::decode(&text, |_| Some(&key)).is_none());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..260)) {
        let key = key(7);
        let mut bytes = bytes;
        let crc = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        prop_assert!(RefreshToken::decode(&text, |_| Some(&key)).is_none());
    }
}
