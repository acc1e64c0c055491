//! Faults of networks, stores, clocks and clients, on real servers, and what Countersign must do. Each module is
//! named after its fault; `docs/faults.md` is the overview.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod all_floods;
mod announcements;
mod audit_sink;
mod cancelled;
mod certificate;
mod clock_skew;
mod clock_steps;
mod commits_wait;
mod comparisons;
mod compressed_bombs;
mod connection_floods;
mod cut_off;
mod demoted;
mod documentation;
mod enumeration;
mod failed_attempts;
mod first_start;
mod flood;
mod frequent_logins;
mod harness;
mod health;
mod hostile_hash;
mod hostile_input;
mod import_interrupted;
mod key_revoked;
mod key_rotation;
mod key_rows;
mod key_unknown;
mod killed;
mod late_commit;
mod latency;
mod lost_answer;
mod many_revocations;
mod neighbours;
mod nemesis;
mod one_token;
mod outage_log;
mod own_account;
mod paused;
mod piled_sessions;
mod postgres_down;
mod postgres_exhausted;
mod postgres_frozen;
mod postgres_read_only;
mod promotion;
mod recording_client;
mod redis_down;
mod redis_empty;
mod redis_failover;
mod redis_full;
mod redis_nodes;
mod redis_refuses;
mod registrations;
mod reply_lost;
mod restored;
mod retry_storm;
mod secrets;
mod shared_folder;
mod silent_host;
mod store_calls;
mod stray_nodes;
mod strong_consistency;
mod stuffing;
mod theft;
mod token_format;
mod two_primaries;
mod unfinished_requests;
mod watchers;
mod watching;
