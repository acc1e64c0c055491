//! The steps of replicas and stores: reconciliation, restarts, promotions, and the passing of time.

use super::bounds::{Fault, Standby};
use super::judge;
use super::refresh::{log_out, take_call};
use super::state::{Event, Login, Phase, Replica, RowSet, State, bit, has};
use super::system::System;

impl System {
    pub fn reconcile(&self, state: &mut State, replica: usize) -> Option<Event> {
        let Replica {
            known,
            read,
            is_loading,
            timeline,
            ..
        } = state.replicas[replica];
        let mut event = None;
        let is_replaced = !is_loading && timeline != state.timeline;
        if is_replaced {
            for (n, row) in state.rows.iter_mut().enumerate().filter(|(n, _)| has(known, *n)) {
                row.is_excused = false;
                if !row.is_stored {
                    // The age of what the replicas know counts from here.
                    state.overdue &= !bit(n);
                    row.is_stored = !self.has(Fault::NoWriteBack);
                    event = Some(Event::WrittenBack);
                }
            }
        }
        let visible = state.visible();
        let skipped = if is_replaced || is_loading { 0 } else { read };
        let news = if self.has(Fault::AnnouncementsOnly) {
            0
        } else {
            visible & !skipped
        };
        // A row that was begun before another one that was read, and committed after it.
        if self.bounds.late_commits && (0..8).any(|row| has(news & !known, row) && read >> row > 1) {
            event = event.or(Some(Event::LateCommitRead));
        }
        let begun = state.rows_where(|_| true);
        let passed = if self.has(Fault::LateCommitsSkipped) {
            begun
        } else {
            visible
        };
        state.replicas[replica] = Replica {
            known: known | news,
            read: if self.bounds.late_commits { passed } else { 0 },
            is_fresh: true,
            is_loading: false,
            timeline: state.timeline,
        };
        state.broken = judge::reconciled(state, replica);
        event
    }

    pub fn promote(&self, state: &mut State, lost: RowSet) {
        state.left.failovers -= 1;
        state.timeline += 1;
        state.lost_rows = lost != 0;
        for (n, row) in state.rows.iter_mut().enumerate() {
            if row.phase == Phase::Begun {
                // Its transaction is gone.
                row.is_excused = true;
            }
            if has(lost, n) {
                row.is_stored = false;
                row.is_excused = true;
                if self.bounds.postgres_is_promoted == Some(Standby::Synchronous) {
                    // The commit waited for the standby, and the connection is lost.
                    row.replica = None;
                }
            }
        }
    }

    pub fn pass_time(&self, state: &mut State) {
        state.left.time -= 1;
        state.overdue = state.rows_where(|row| row.phase == Phase::Acknowledged && !row.is_excused);
        for record in state.records.iter_mut().chain(&mut state.standby).flatten() {
            record.is_recent = false;
        }
        for replica in &mut state.replicas {
            replica.is_fresh = false;
        }
        for device in &mut state.devices {
            self.pass_deadlines(device);
            let gives_up = device.is_refreshing && !self.has(Fault::LateRetry);
            if gives_up || matches!(device.login, Login::Hashing { .. }) {
                log_out(device);
            }
        }
    }
}

pub fn restart(state: &mut State, replica: usize) {
    state.left.restarts -= 1;
    state.replicas[replica] = Replica {
        is_loading: true,
        timeline: state.timeline,
        ..Replica::default()
    };
    for device in &mut state.devices {
        for slot in (0..2).rev() {
            if device.calls[slot].is_some_and(|call| call.replica == replica) {
                take_call(device, slot);
            }
        }
    }
    state.thief.call = state.thief.call.filter(|call| call.replica != replica);
    for row in &mut state.rows {
        row.replica = row.replica.filter(|serving| *serving != replica);
    }
}
