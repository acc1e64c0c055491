//! What must hold of every text that is taken for a refresh token.
//!
//! The first byte of an input says what the rest is: a text as it came over the wire, bytes of a token whose checksum
//! somebody has mended, or bytes that our own key has tagged, so that the reader behind the tag is reached.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::UnixMillis;
use countersign::keys::refresh::RefreshKey;
use countersign::model::{ClientId, Epochs, SessionId, UserId};
use countersign::secret::SecretBytes;
use countersign::token::refresh_token::{MAX_LEN, PREFIX, RefreshToken};
use uuid::Uuid;

const WIRE: u8 = 0;
const MENDED: u8 = 1;
const TAGGED: u8 = 2;
const KEY: u32 = 3;
const TAG: usize = 16;
const CRC: usize = 4;

static OURS: LazyLock<RefreshKey> = LazyLock::new(|| RefreshKey::new(&SecretBytes::new([7; 32])));

static GOOD: LazyLock<Vec<String>> = LazyLock::new(|| {
    let longest = "x".repeat(64);
    let token = |client: &str, generation| RefreshToken {
        user: UserId(Uuid::from_u128(1)),
        session: SessionId(Uuid::from_u128(2)),
        generation,
        epochs: Epochs {
            global: 3,
            user: i64::MIN,
            client: i64::MAX,
        },
        expires: UnixMillis(1_800_000_000_000),
        client: ClientId::parse(client, "client_id").unwrap(),
        secret: SecretBytes::new([9; 32]),
    };
    let all = [token("web", 0), token(&longest, u32::MAX)];
    all.map(|token| token.encode(KEY, &OURS).expose().to_owned()).to_vec()
});

fn bytes(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// These bytes with a right checksum behind them, which anybody can compute.
fn mended(bytes: &[u8]) -> String {
    text(&[bytes, &crc32fast::hash(bytes).to_be_bytes()].concat())
}

/// Good tokens as text, as bytes without their checksum, and as bytes without their tag.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for good in GOOD.iter() {
        let bytes = bytes(good);
        let body = &bytes[..bytes.len() - CRC];
        seeds.push([&[WIRE], good.as_bytes()].concat());
        seeds.push([&[MENDED], body].concat());
        seeds.push([&[TAGGED], &body[..body.len() - TAG]].concat());
    }
    seeds
}

/// Holds one input against the rules; whether it was accepted.
pub(crate) fn check(input: &[u8]) -> bool {
    let (kind, rest) = input.split_first().unwrap_or((&WIRE, &[]));
    match *kind {
        TAGGED => {
            let tagged = [rest, &OURS.tag(rest)].concat();
            decided(&mended(&tagged)).is_some()
        }
        kind => {
            let token = if kind == MENDED {
                mended(rest)
            } else {
                let Ok(token) = std::str::from_utf8(rest) else {
                    return false;
                };
                token.to_owned()
            };
            let accepted = decided(&token).is_some();
            assert!(!accepted || GOOD.contains(&token), "accepted, and nobody tagged it");
            accepted
        }
    }
}

/// What a text says under our key, if it says anything.
fn decided(token: &str) -> Option<RefreshToken> {
    let decode = || RefreshToken::decode(token, |id| (id == KEY).then_some(&*OURS));
    let read = decode();
    assert_eq!(read.is_some(), decode().is_some(), "the verdict changes");
    assert!(RefreshToken::decode(token, |_| None).is_none(), "good without a key");
    let other = RefreshKey::new(&SecretBytes::new([8; 32]));
    assert!(
        RefreshToken::decode(token, |_| Some(&other)).is_none(),
        "good under another's key"
    );

    let (unproved, claimed) = (RefreshToken::unproved(token), RefreshToken::claimed_key(token));
    if let Some(unproved) = &unproved {
        // One token has one spelling: written again, everything but the tag and the checksum over it is the same.
        let id = claimed.unwrap();
        let again = unproved.encode(id, &OURS);
        let (before, after) = (bytes(token), bytes(again.expose()));
        let signed = before.len() - TAG - CRC;
        assert_eq!((before.len(), &before[..signed]), (after.len(), &after[..signed]));
        assert!(token.len() <= MAX_LEN);
    }
    if let Some(read) = &read {
        assert_eq!(claimed, Some(KEY));
        assert_eq!(
            read.encode(KEY, &OURS).expose(),
            token,
            "the same token is the same bytes"
        );
    }
    read
}
