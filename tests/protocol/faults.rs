//! Faults that are put into the rules on purpose. The search must find each: one that finds no fault here would prove nothing
//! about the rules as they are.

use std::collections::BTreeSet;

use stateright::{Checker as _, HasDiscoveries, Model as _};

use super::bounds::{Bounds, Fault};
use super::scopes::{LATE_COMMITS, LEVELS, PROMOTION, Scope, THEFT};
use super::state::{Action, Promise};
use super::system::System;

/// Each fault, where it is searched, and the promise that it breaks.
pub const FAULTS: [(Fault, &Scope, Promise); 21] = [
    (Fault::NoTombstone, &THEFT, Promise::ReuseEndsTheSession),
    (Fault::NoGrace, &THEFT, Promise::HonestStaysIn),
    (Fault::ReplayRotates, &THEFT, Promise::OneSuccessor),
    (Fault::AttemptsIgnored, &THEFT, Promise::OneWinner),
    (Fault::CheckThenWrite, &THEFT, Promise::OneWinner),
    (Fault::NoFastForward, &THEFT, Promise::SuccessorWorks),
    (Fault::DeadlineIgnored, &THEFT, Promise::HonestStaysIn),
    (Fault::ReuseNotStored, &THEFT, Promise::RevokedStaysRevoked),
    (Fault::NoLookup, &LEVELS, Promise::RevokedStaysRevoked),
    (Fault::NoIndexLookup, &PROMOTION, Promise::RevokedStaysRevoked),
    (Fault::AcknowledgedEarly, &LATE_COMMITS, Promise::RevokedStaysRevoked),
    (Fault::AnnouncementsOnly, &LEVELS, Promise::AsOfIsComplete),
    (Fault::LateCommitsSkipped, &LATE_COMMITS, Promise::AsOfIsComplete),
    (Fault::StaleServed, &LEVELS, Promise::RevokedStaysRevoked),
    (Fault::NoWriteBack, &PROMOTION, Promise::RevokedStaysRevoked),
    (Fault::EpochsAfterHashing, &LEVELS, Promise::RevokedStaysRevoked),
    (Fault::CoarseEpochs, &LEVELS, Promise::RevokedStaysRevoked),
    (Fault::KeepIgnored, &LEVELS, Promise::OnlyTheRevoked),
    (Fault::NewAttemptEachTime, &THEFT, Promise::HonestStaysIn),
    (Fault::LateRetry, &THEFT, Promise::HonestStaysIn),
    (Fault::CallsOutliveAttempts, &THEFT, Promise::HonestStaysIn),
];

/// A short way in which the fault breaks the promise; none if it does not.
fn short_way(fault: Fault, scope: &Scope, promise: Promise) -> Option<Vec<Action>> {
    // What must be possible is asked without the fault.
    let bounds = Bounds {
        shows: &[],
        ..scope.bounds
    };
    let system = System {
        bounds,
        fault: Some(fault),
    };
    let wanted = HasDiscoveries::AllOf(BTreeSet::from([promise.words()]));
    let checker = system.checker().finish_when(wanted).spawn_bfs().join();
    checker.discovery(promise.words()).map(stateright::Path::into_actions)
}

#[test]
fn every_fault_breaks_its_promise() {
    let missed: Vec<Fault> = FAULTS
        .into_iter()
        .filter_map(|(fault, scope, promise)| {
            let path = short_way(fault, scope, promise);
            println!("{fault:?} breaks \u{201c}{}\u{201d}: {path:?}", promise.words());
            path.is_none().then_some(fault)
        })
        .collect();
    assert_eq!(missed, [], "the search does not find these faults");
}
