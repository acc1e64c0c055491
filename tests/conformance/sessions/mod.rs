//! Live sessions: one list of cases, run on SQLite, on a single Redis and on a Redis Cluster of three masters.

pub mod backends;
mod capacity;
mod embedded;
mod lifecycle;
mod narrowing;
mod races;
mod table;
mod walk;

use capacity::*;
use lifecycle::*;
use narrowing::*;
use races::*;
use table::*;
use walk::*;

/// A store on each backend.
mod fresh {
    pub use super::backends::{cluster, redis, sqlite};
}

on_each!([sqlite, redis, cluster] [
    the_current_token_rotates,
    the_previous_token_gets_the_same_successor_and_nothing_changes,
    with_a_grace_of_zero_the_previous_token_is_reuse,
    attempts_are_compared_exactly_unless_tolerant,
    three_rotations_and_a_replay_in_one_second,
    after_a_reuse_every_generation_is_reuse,
    evidence_says_whether_the_successor_was_used,
    the_record_follows_a_token_that_is_ahead,
    too_far_ahead_drops_the_record,
    a_call_that_may_be_late_ends_no_session,
    after_its_deadline_a_call_moves_nothing,
    a_wrong_secret_era_user_or_session_is_unknown,
    an_expired_session_is_not_an_absent_one,
    a_refusal_changes_nothing,
    a_token_needs_an_audience,
    a_token_that_would_be_too_large_moves_nothing,
    a_caller_scope_brings_countersigns_audience,
    random_requests_are_narrowed_as_by_the_model,
    a_session_is_listed_as_it_was_made,
    a_refresh_updates_the_fields_it_names,
    sessions_over_the_limit_are_returned_and_not_removed,
    a_session_ends_once,
    ending_a_user_keeps_later_logins_and_the_kept_session,
    any_text_is_stored_unchanged,
    a_thousand_sessions_end_in_one_call,
    the_records_of_a_user_are_bounded,
    more_records_than_are_read_at_once_are_listed_shrunk_and_ended,
    sessions_end_together_and_a_tombstone_stays,
    one_of_fifty_rotations_wins,
    fifty_different_attempts_are_one_reuse,
    random_sequences_follow_the_model,
]);
