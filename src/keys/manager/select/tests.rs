use super::*;
use crate::keys::fixtures::{master, now, row};
use crate::keys::rows::signing_row;
use crate::keys::seal::MasterKeyring;
use crate::keys::signing::SigningKey;
use crate::secret::SystemEntropy;
use crate::store::keys::{KeyRows, SigningRow};

use Algorithm::{EdDsa, Es256};
use KeyState::{Active, Pending, Retired, Revoked};

const PERIOD: Duration = Duration::from_secs(1000);

fn ago(secs: u64) -> UnixMillis {
    now().minus(Duration::from_secs(secs))
}

fn ring(signing: Vec<SigningRow>, master: &MasterKeyring) -> KeyRing {
    let checks = master.check_rows(&SystemEntropy).unwrap();
    let rows = KeyRows {
        signing,
        checks,
        ..KeyRows::default()
    };
    KeyRing::open(rows, master, now())
}

fn imported(algorithm: Algorithm, state: KeyState, since: UnixMillis, master: &MasterKeyring) -> SigningRow {
    let key = SigningKey::generate(algorithm, &SystemEntropy).unwrap();
    SigningRow {
        state,
        activated: (state == Active).then_some(since),
        ..signing_row(&key, KeySource::Imported, since, master, &SystemEntropy).unwrap()
    }
}

#[test]
fn a_key_gives_way_after_its_period() {
    let master = master();
    for (age, expected) in [
        (999, RotationDue::No),
        (1000, RotationDue::WhenLoadedEverywhere),
        (5000, RotationDue::WhenLoadedEverywhere),
    ] {
        let ring = ring(vec![row(EdDsa, Active, ago(age), ago(age), &master)], &master);
        assert_eq!(rotation_due(&ring, EdDsa, PERIOD, now()), expected, "{age}");
    }
}

#[test]
fn a_key_gives_way_to_another_configured_algorithm_unless_it_was_imported() {
    let master = master();
    let made = ring(vec![row(EdDsa, Active, ago(1), ago(1), &master)], &master);
    assert_eq!(
        rotation_due(&made, Es256, PERIOD, now()),
        RotationDue::WhenLoadedEverywhere
    );
    let brought = ring(vec![imported(EdDsa, Active, ago(1), &master)], &master);
    assert_eq!(rotation_due(&brought, Es256, PERIOD, now()), RotationDue::No);
    assert_eq!(
        rotation_due(&brought, Es256, PERIOD, now().plus(PERIOD)),
        RotationDue::WhenLoadedEverywhere
    );
}

#[test]
fn a_second_standby_of_ours_asks_for_a_rotation_and_an_imported_one_does_not() {
    let master = master();
    let mut rows = vec![
        row(EdDsa, Active, ago(9), ago(9), &master),
        row(EdDsa, Pending, ago(8), ago(8), &master),
        imported(EdDsa, Pending, ago(7), &master),
    ];
    assert_eq!(
        rotation_due(&ring(rows.clone(), &master), EdDsa, PERIOD, now()),
        RotationDue::No
    );
    rows.push(row(EdDsa, Pending, ago(6), ago(6), &master));
    assert_eq!(
        rotation_due(&ring(rows, &master), EdDsa, PERIOD, now()),
        RotationDue::WhenLoadedEverywhere
    );
}

#[test]
fn a_tampered_key_gives_way_at_once_but_not_one_that_others_can_open() {
    let (ours, other) = (master(), master());
    let mut tampered = row(EdDsa, Active, ago(1), ago(1), &ours);
    tampered.sealed[40] ^= 1;
    assert_eq!(
        rotation_due(&ring(vec![tampered], &ours), EdDsa, PERIOD, now()),
        RotationDue::Immediately
    );
    assert_eq!(
        rotation_due(&ring(vec![], &ours), EdDsa, PERIOD, now()),
        RotationDue::Immediately
    );
    let mut checks = ours.check_rows(&SystemEntropy).unwrap();
    checks.extend(other.check_rows(&SystemEntropy).unwrap());
    let rows = KeyRows {
        signing: vec![row(EdDsa, Active, ago(5000), ago(5000), &other)],
        checks,
        ..KeyRows::default()
    };
    let elsewhere = KeyRing::open(rows, &ours, now());
    assert_eq!(rotation_due(&elsewhere, EdDsa, PERIOD, now()), RotationDue::No);
}

#[test]
fn imported_keys_sign_next_and_then_the_longest_published() {
    let master = master();
    let rows = vec![
        row(EdDsa, Pending, ago(5), ago(5), &master),
        row(EdDsa, Pending, ago(9), ago(9), &master),
        row(Es256, Pending, ago(99), ago(99), &master),
        imported(Es256, Pending, ago(1), &master),
        row(EdDsa, Retired, ago(99), ago(99), &master),
    ];
    let expected = [&rows[3].id, &rows[1].id, &rows[0].id].map(Clone::clone);
    let ring = ring(rows, &master);
    let successors: Vec<KeyId> = successors(&ring, EdDsa).into_iter().map(|key| key.id).collect();
    assert_eq!(successors, expected);
}

#[test]
fn the_replacement_is_the_longest_published_standby() {
    let master = master();
    let rows = vec![
        row(EdDsa, Active, ago(9), ago(9), &master),
        row(EdDsa, Pending, ago(5), ago(5), &master),
        row(EdDsa, Pending, ago(7), ago(7), &master),
        row(Es256, Pending, ago(8), ago(8), &master),
    ];
    let ids: Vec<KeyId> = rows.iter().map(|row| row.id.clone()).collect();
    let full = ring(rows.clone(), &master);
    assert_eq!(replacement(&full, EdDsa, &ids[0]).as_ref(), Some(&ids[2]));
    assert_eq!(
        replacement(&full, EdDsa, &ids[2]).as_ref(),
        Some(&ids[1]),
        "never the revoked one itself"
    );
    assert_eq!(replacement(&full, Es256, &ids[0]).as_ref(), Some(&ids[3]));
    let other = ring(vec![rows[0].clone(), rows[3].clone()], &master);
    assert_eq!(
        replacement(&other, EdDsa, &ids[0]).as_ref(),
        Some(&ids[3]),
        "any is better than none"
    );
    assert_eq!(replacement(&ring(vec![rows[0].clone()], &master), EdDsa, &ids[0]), None);
}

#[test]
fn a_key_expires_with_its_last_token() {
    let master = master();
    let span = Duration::from_secs(100);
    let rows = [Pending, Active, Retired, Revoked].map(|state| row(EdDsa, state, ago(999), ago(100), &master));
    let (retired, revoked) = (rows[2].id.clone(), rows[3].id.clone());
    let ring = ring(rows.into(), &master);
    assert_eq!(expired_keys(&ring, span, now()), [retired, revoked]);
    assert!(expired_keys(&ring, span, now().minus(Duration::from_millis(1))).is_empty());
}
