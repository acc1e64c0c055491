use std::time::Duration;

use super::*;
use crate::keys::fixtures::{claims, master, now, policy, row};
use crate::keys::rows::secret_row;
use crate::keys::verify::verify;
use crate::model::{Claims, InactiveReason};
use crate::secret::SystemEntropy;

/// Changes a row; the second row is another good one.
type Change = fn(&mut SigningRow, &SigningRow);

fn rows(master: &MasterKeyring) -> KeyRows {
    let long_ago = now().minus(Duration::from_hours(1));
    let signing = |state| row(Algorithm::EdDsa, state, long_ago, long_ago, master);
    let secret = |purpose, id| secret_row(purpose, id, long_ago, master, &SystemEntropy).unwrap();
    KeyRows {
        signing: KeyState::ALL.map(signing).into(),
        secrets: vec![
            secret(SecretPurpose::Refresh, 1),
            secret(SecretPurpose::Refresh, 2),
            secret(SecretPurpose::Pepper, 1),
        ],
        checks: master.check_rows(&SystemEntropy).unwrap(),
    }
}

fn state_of(ring: &KeyRing, state: KeyState) -> KeyId {
    ring.listed().find(|key| key.state == state).unwrap().id
}

#[test]
fn everything_that_opens_is_in_use() {
    let master = master();
    let ring = KeyRing::open(rows(&master), &master, now());
    assert_eq!(ring.unusable_rows(), []);
    assert_eq!(ring.active().unwrap().id(), &state_of(&ring, KeyState::Active));
    assert_eq!(ring.newest_refresh().unwrap().0, 2);
    assert!(ring.refresh_key(1).is_some() && ring.refresh_key(3).is_none());
    assert!(ring.pepper(1).is_some());
    assert_eq!(ring.newest_pepper().unwrap().0, 1);
    assert_eq!(ring.listed().count(), 4);
    let claims: Claims = serde_json::from_value(claims()).unwrap();
    let token = ring.active().unwrap().sign(&claims).unwrap();
    assert!(verify(&token, ring.verifying(), &policy(), now()).is_ok());
}

#[test]
fn the_published_set_has_all_but_revoked_keys_and_one_tag_everywhere() {
    let master = master();
    let rows = rows(&master);
    let ring = KeyRing::open(rows.clone(), &master, now());
    let published = VerifyingKeys::from_jwks(ring.jwks_json()).unwrap();
    for state in KeyState::ALL {
        let id = state_of(&ring, state);
        assert_eq!(published.knows(&id), state != KeyState::Revoked, "{state:?}");
        assert!(ring.verifying().knows(&id), "a revoked key is known as such");
    }
    assert!(!ring.jwks_json().contains("\"d\""));
    assert_eq!(ring.etag(), KeyRing::open(rows.clone(), &master, now()).etag());
    let fewer = KeyRows {
        signing: rows.signing[..2].to_vec(),
        ..rows
    };
    assert_ne!(ring.etag(), KeyRing::open(fewer, &master, now()).etag());
}

#[test]
fn a_tampered_row_is_refused_and_the_others_work() {
    let master = master();
    let good = rows(&master);
    let other = good.signing[1].clone();
    let changes: [(&str, Change); 6] = [
        ("a bit of the ciphertext", |row, _| row.sealed[30] ^= 1),
        ("the name of the master key", |row, _| row.sealed[1] ^= 1),
        ("cut short", |row, _| row.sealed.truncate(10)),
        ("another row's private half", |row, other| {
            row.sealed.clone_from(&other.sealed);
        }),
        ("another public half", |row, other| {
            row.public_jwk.clone_from(&other.public_jwk);
        }),
        ("another algorithm", |row, _| row.algorithm = Algorithm::Es256),
    ];
    for (what, change) in changes {
        let mut rows = good.clone();
        change(&mut rows.signing[0], &other);
        let ring = KeyRing::open(rows, &master, now());
        assert_eq!(ring.unusable_rows().len(), 1, "{what}");
        assert_eq!(ring.unusable_rows()[0].error, UnsealError::Tampered, "{what}");
        assert!(ring.is_tampered(&good.signing[0].id), "{what}");
        assert!(!ring.verifying().knows(&good.signing[0].id), "{what}");
        assert!(ring.active().is_some() && ring.newest_refresh().is_some(), "{what}");
    }
    let mut rows = good.clone();
    rows.secrets[1].sealed[30] ^= 1;
    let ring = KeyRing::open(rows, &master, now());
    assert!(ring.is_tampered_secret(SecretPurpose::Refresh, 2));
    assert_eq!(ring.newest_refresh().unwrap().0, 1);
}

#[test]
fn write_access_to_the_store_does_not_allow_forging_a_key() {
    let master = master();
    let mut rows = rows(&master);
    // The attacker seals a key of their own with a master key of their own.
    let theirs = crate::keys::fixtures::master();
    let forged = row(Algorithm::EdDsa, KeyState::Retired, now(), now(), &theirs);
    rows.signing.push(forged.clone());
    let ring = KeyRing::open(rows, &master, now());
    assert!(!ring.verifying().knows(&forged.id));
    assert!(!ring.jwks_json().contains(forged.id.as_str()));
}

#[test]
fn a_row_under_a_missing_master_key_is_not_tampered() {
    let (old, new) = (master(), master());
    let mut rows = rows(&old);
    rows.checks.extend(new.check_rows(&SystemEntropy).unwrap());
    let ring = KeyRing::open(rows, &new, now());
    assert_eq!(ring.unusable_rows().len(), 6, "all but the revoked key");
    let name = old.names().next().unwrap().to_owned();
    assert!(
        ring.unusable_rows()
            .iter()
            .all(|row| row.error == UnsealError::UnknownMaster(name.clone()))
    );
    assert!(!ring.is_tampered(&state_of(&ring, KeyState::Active)));
    assert_eq!(ring.active_id(), Some(&state_of(&ring, KeyState::Active)));
}

#[test]
fn a_new_refresh_key_waits_until_it_is_known() {
    let master = master();
    let mut rows = rows(&master);
    rows.secrets
        .push(secret_row(SecretPurpose::Refresh, 3, now(), &master, &SystemEntropy).unwrap());
    let before = now().minus(Duration::from_millis(1));
    let ring = KeyRing::open(rows.clone(), &master, before);
    assert_eq!(ring.newest_refresh().unwrap().0, 2);
    assert!(ring.refresh_key(3).is_some());
    assert!(ring.matches(&rows, before));
    assert!(!ring.matches(&rows, now()), "time alone makes another ring of it");
    assert_eq!(
        KeyRing::open(rows.clone(), &master, now()).newest_refresh().unwrap().0,
        3
    );
    rows.secrets.retain(|row| row.id == 3);
    assert_eq!(
        KeyRing::open(rows, &master, before).newest_refresh().unwrap().0,
        3,
        "there is no other"
    );
}

#[test]
fn a_retired_key_is_known_as_such() {
    let master = master();
    let key = row(Algorithm::EdDsa, KeyState::Active, now(), now(), &master);
    let mut rows = KeyRows {
        signing: vec![key],
        ..KeyRows::default()
    };
    let claims: Claims = serde_json::from_value(claims()).unwrap();
    let token = KeyRing::open(rows.clone(), &master, now())
        .active()
        .unwrap()
        .sign(&claims)
        .unwrap();
    rows.signing[0].state = KeyState::Retired;
    rows.signing[0].retired = Some(now().minus(Duration::from_hours(1)));
    let ring = KeyRing::open(rows, &master, now());
    assert!(ring.active().is_none());
    let verdict = verify(&token, ring.verifying(), &policy(), now());
    assert_eq!(verdict, Err(InactiveReason::BadSignature));
}
