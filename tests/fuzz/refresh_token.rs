//! The rules for every text that is presented as a refresh token.
//!
//! The first byte of an input gives its kind: a text as received, bytes to which the test adds a correct checksum, or
//! bytes that the test tags with the server's key, to reach the code behind the tag check.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign::clock::UnixMillis;
use countersign::keys::refresh::RefreshKey;
use countersign::model::{ClientId, Epochs, SessionId, UserId};
use countersign::secret::SecretBytes;
use countersign::token::refresh_token::{MAX_LEN, PREFIX, RefreshToken};
use uuid::Uuid;

use super::target::Target;

/// The properties of refresh tokens.
pub(crate) const TARGET: Target = Target {
    name: "refresh_token",
    inputs: 20_000,
    seeds,
    check,
};

const WIRE: u8 = 0;
const WITH_CHECKSUM: u8 = 1;
const TAGGED: u8 = 2;
const KEY: u32 = 3;
const TAG: usize = 16;
const CRC: usize = 4;

static SERVER_KEY: LazyLock<RefreshKey> = LazyLock::new(|| RefreshKey::new(&SecretBytes::new([7; 32])));

static VALID_TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
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
    all.map(|token| token.encode(KEY, &SERVER_KEY).expose().to_owned())
        .to_vec()
});

fn bytes(token: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// These bytes with their checksum, which needs no key.
fn with_checksum(bytes: &[u8]) -> String {
    text(&[bytes, &crc32fast::hash(bytes).to_be_bytes()].concat())
}

/// Valid tokens as text, as bytes without their checksum, and as bytes without their tag.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for valid in VALID_TOKENS.iter() {
        let bytes = bytes(valid);
        let body = &bytes[..bytes.len() - CRC];
        seeds.push([&[WIRE], valid.as_bytes()].concat());
        seeds.push([&[WITH_CHECKSUM], body].concat());
        seeds.push([&[TAGGED], &body[..body.len() - TAG]].concat());
    }
    seeds
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    let (kind, rest) = input.split_first().unwrap_or((&WIRE, &[]));
    match *kind {
        TAGGED => {
            let tagged = [rest, &SERVER_KEY.tag(rest)].concat();
            decode_checked(&with_checksum(&tagged)).is_some()
        }
        kind => {
            let token = if kind == WITH_CHECKSUM {
                with_checksum(rest)
            } else {
                let Ok(token) = std::str::from_utf8(rest) else {
                    return false;
                };
                token.to_owned()
            };
            let accepted = decode_checked(&token).is_some();
            assert!(
                !accepted || VALID_TOKENS.contains(&token),
                "accepted, but not tagged with the server's key"
            );
            accepted
        }
    }
}

/// The token that a text is under the server's key, if it is one.
fn decode_checked(token: &str) -> Option<RefreshToken> {
    let decode = || RefreshToken::decode(token, |id| (id == KEY).then_some(&*SERVER_KEY));
    let read = decode();
    assert_eq!(read.is_some(), decode().is_some(), "the verdict changed");
    assert!(RefreshToken::decode(token, |_| None).is_none(), "valid without a key");
    let other = RefreshKey::new(&SecretBytes::new([8; 32]));
    assert!(
        RefreshToken::decode(token, |_| Some(&other)).is_none(),
        "valid under another key"
    );

    let (unproved, claimed) = (RefreshToken::unverified(token), RefreshToken::claimed_key(token));
    if let Some(unproved) = &unproved {
        // One token has one spelling: encoded again, everything before tag and checksum is the same.
        let id = claimed.unwrap();
        let again = unproved.encode(id, &SERVER_KEY);
        let (before, after) = (bytes(token), bytes(again.expose()));
        let signed = before.len() - TAG - CRC;
        assert_eq!((before.len(), &before[..signed]), (after.len(), &after[..signed]));
        assert!(token.len() <= MAX_LEN);
    }
    if let Some(read) = &read {
        assert_eq!(claimed, Some(KEY));
        assert_eq!(
            read.encode(KEY, &SERVER_KEY).expose(),
            token,
            "the same token is the same bytes"
        );
    }
    read
}
