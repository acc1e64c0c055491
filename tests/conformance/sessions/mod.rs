//! Live sessions: one list of cases, run on SQLite, on one Redis and on a Redis Cluster of three masters.

mod embedded;
mod lifecycle;
mod narrowing;
mod races;
mod table;
mod walk;
pub mod world;

use lifecycle::*;
use narrowing::*;
use races::*;
use table::*;
use walk::*;

/// A store on each backend.
mod fresh {
    pub use super::world::{cluster, redis, sqlite};
}

on_each!([sqlite, redis, cluster] [
    the_current_token_rotates,
    the_previous_token_is_answered_again_and_nothing_moves,
    a_grace_of_zero_answers_nothing_again,
    attempts_are_compared_exactly_unless_tolerant,
    three_rotations_and_a_replay_in_one_second,
    a_tombstone_is_found_by_every_generation,
    evidence_tells_whether_the_successor_was_used,
    a_token_ahead_is_followed,
    too_far_ahead_drops_the_record,
    strangers_are_unknown,
    expired_is_not_absent,
    a_refusal_changes_nothing,
    a_token_is_for_somebody,
    what_does_not_fit_moves_nothing,
    a_right_on_countersign_brings_its_audience,
    random_requests_are_narrowed_as_the_model_does,
    a_session_is_listed_as_it_was_made,
    a_refresh_updates_what_it_names,
    a_crowd_is_told_of_at_the_limit,
    ending_a_session_ends_it_once,
    ending_a_user_spares_later_log_ins_and_the_kept_session,
    any_text_is_kept_as_it_is,
    a_thousand_sessions_end_in_one_call,
    one_of_fifty_rotations_wins,
    fifty_different_attempts_end_the_session_once,
    random_walks_follow_the_model,
]);
