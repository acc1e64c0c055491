//! What a correct service could not have answered.

use std::time::Duration;

use countersign::model::SessionId;

use crate::clients::{THIEF, World};
use crate::support::history::{Anomaly, Call, Operation, Outcome, Violation, violations};

/// How long after the last fault every replica and verifier knows every revocation, and every call succeeds.
pub(crate) const SETTLED_AFTER: Duration = Duration::from_secs(8);

/// Asks about every session once more, now that nothing fails, and returns what cannot be.
pub(crate) async fn judge(world: &World) -> Vec<String> {
    let record = &world.sim.record;
    let mut dice = world.sim.fork();
    let sessions = record.sessions.lock().clone();
    for session in &sessions {
        let ended = has_ended(&record.history(), &session.id);
        let mut answers = Vec::new();
        let access = session.newest_access();
        for replica in &world.replicas {
            answers.push(world.validate_at(replica, session, &access, &mut dice).await);
        }
        for verifier in &world.verifiers {
            answers.push(world.validate_locally(verifier, session, &access));
        }
        for answer in answers {
            match answer {
                None => record.find(format!("NotAnswered: Validate, session {}", session.id)),
                Some(true) if ended => record.find(format!("StillActive: session {}", session.id)),
                Some(_) => {}
            }
        }
        let attempt = format!("last-{:x}", dice.next());
        if !world.refresh_once(session, session.newest(), &attempt, &mut dice).await {
            record.find(format!("NotAnswered: Refresh, session {}", session.id));
        }
    }
    let reused = record.reused.lock().clone();
    for (session, current) in reused {
        // Beside the rules, which ask the database first: a tombstone stays a tombstone.
        let rotation = world.deployment.sessions.rotate(&current).await.unwrap();
        if rotation.success().is_some() {
            record.find(format!("NoTombstone: session {session}"));
        }
    }
    let calls = record.history();
    let mut findings = std::mem::take(&mut *record.findings.lock());
    let found = violations(&calls);
    let possible = found.iter().filter(|violation| !is_loss(world, violation));
    findings.extend(possible.map(ToString::to_string));
    for session in &sessions {
        findings.extend(unexplained_inactive(&calls, &session.id));
        let id: SessionId = session.id.parse().unwrap();
        if record.reused.lock().contains_key(&id) && !has_ended(&calls, &session.id) {
            findings.push(format!("AliveAfterReuse: session {id}"));
        }
    }
    // The checker groups the calls by session in no certain order.
    findings.sort();
    findings
}

/// Whether the store of sessions, which has lost rotations of the session, explains the violation: a generation rotates twice,
/// or the record jumps ahead.
fn is_loss(world: &World, violation: &Violation) -> bool {
    let call = &violation.call;
    let rotated_twice = match violation.anomaly {
        Anomaly::TwoWinners => true,
        Anomaly::TwoSuccessors => is_further_than_next(call),
        Anomaly::ActiveAfterRevocation | Anomaly::UnexplainedRefusal | Anomaly::AsOfTooRecent => false,
    };
    rotated_twice && world.sim.record.may_be_lost(&call.session)
}

fn is_further_than_next(call: &Call) -> bool {
    let (
        Operation::Refresh {
            generation: presented, ..
        },
        Outcome::Tokens { generation, .. },
    ) = (&call.operation, &call.outcome)
    else {
        return false;
    };
    *generation > presented + 1
}

/// Whether the end of the session was told to a client.
fn has_ended(calls: &[Call], session: &str) -> bool {
    let of_session = calls.iter().filter(|call| call.session == session);
    let mut ends = of_session.filter(|call| matches!(call.outcome, Outcome::Done | Outcome::Refused(_)));
    ends.any(|call| call.operation != Operation::Validate)
}

/// An access token that was called inactive needs a cause that began before: a revocation, a thief, or a refresh without an
/// answer, which the store of sessions may have executed after a later one.
fn unexplained_inactive(calls: &[Call], session: &str) -> Option<String> {
    let of_session = || calls.iter().filter(|call| call.session == session);
    let inactive = of_session().find(|call| call.outcome == Outcome::Inactive)?;
    let mut before = of_session().filter(|call| Some(call.started) < inactive.ended);
    let is_explained = before.any(|call| match &call.operation {
        Operation::Revoke => true,
        Operation::Refresh { attempt, .. } => attempt.starts_with(THIEF) || call.ended.is_none(),
        Operation::Login | Operation::Validate => false,
    });
    (!is_explained).then(|| format!("UnexplainedInactive: {inactive:?}"))
}
