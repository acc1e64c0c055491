//! The checks of the keys: does the master key open the stored keys, and is there a signing key and a standby?

use super::{Findings, State};
use crate::app::error::StartError;
use crate::app::master_key;
use crate::config::Config;
use crate::keys::published;
use crate::keys::ring::KeyRing;
use crate::model::KeyState;
use crate::store::keys::KeyRows;

/// Has another JWT library read a token of each published key.
fn published(ring: &KeyRing, found: &mut Findings) {
    const ABOUT: &str = "published keys";
    let before = found.list.len();
    for key in ring.unsealed() {
        if let Err(problem) = published::check(&key.key, ring.jwks_json()) {
            let id = &key.listed.id;
            let message = format!(
                "the key {id} {problem}: other services may refuse its tokens; `countersign key rotate --force` makes another key \
                 sign, and `countersign key revoke {id}` ends this one"
            );
            found.add(ABOUT, State::Bad, message);
        }
    }
    if found.list.len() == before {
        let count = ring.unsealed().len();
        found.good(ABOUT, format!("another JWT library reads tokens of all {count}"));
    }
}

pub(super) fn look(config: &Config, rows: Option<KeyRows>, found: &mut Findings) {
    const MASTER: &str = "master key";
    const RING: &str = "key ring";
    let master = match master_key::load(config) {
        Ok(master) => master,
        Err(error) => {
            let state = match error {
                StartError::Unreachable(_) => State::Unreachable,
                StartError::Config(_) | StartError::Other(_) => State::Misconfigured,
            };
            found.add(MASTER, state, error.to_string());
            return;
        }
    };
    let Some(rows) = rows else {
        found.good(MASTER, if master.is_some() { "can be read" } else { "none yet" });
        return;
    };
    let sealed = !rows.checks.is_empty() || !rows.signing.is_empty();
    let Some(master) = master else {
        if sealed {
            let message =
                "keys.master_key is missing, and the keys in the store are sealed with it: restore your copy of it";
            found.add(MASTER, State::Misconfigured, message);
        } else {
            found.good(MASTER, "none yet: the first `serve` creates it");
        }
        return;
    };
    if let Err(error) = master.check_belongs_to(&rows) {
        found.add(MASTER, State::Misconfigured, error.to_string());
        return;
    }
    if !sealed {
        found.good(MASTER, "can be read; nothing is sealed yet");
        return;
    }
    let settled = found.clock.now().minus(config.keys.prepublish);
    let ring = KeyRing::open(rows, &master, settled);
    let unusable = ring.unusable_rows().len();
    if unusable == 0 {
        found.good(MASTER, "opens the stored keys");
    } else {
        let message = format!(
            "does not open {unusable} of the stored keys: add the master key that sealed them to keys.master_key, or run \
             `countersign key reseal` where all master keys are set"
        );
        found.add(MASTER, State::Bad, message);
    }
    for unusable in ring.unusable_rows() {
        found.add(
            RING,
            State::Bad,
            format!("{} is not used: {}", unusable.item, unusable.error),
        );
    }
    published(&ring, found);
    let standby = ring.listed().filter(|key| key.state == KeyState::Pending).count();
    match ring.active_id() {
        None => found.add(RING, State::Bad, "no signing key is usable: no token can be issued"),
        Some(active) if standby == 0 => {
            let message = format!("{active} signs, and no standby is published: `serve` creates one within seconds");
            found.add(RING, State::Doubtful, message);
        }
        Some(active) => found.good(RING, format!("{active} signs, {standby} standby published")),
    }
}
