//! The Lua scripts: one per verb, called by the SHA-1 of its text.
//!
//! A script that takes something away or only tells of it carries `allow-oom`: a full Redis must still log people out.

use std::sync::LazyLock;

/// A script and its name to Redis.
#[derive(Debug)]
pub(super) struct Script {
    /// For traces.
    pub(super) name: &'static str,
    pub(super) source: String,
    pub(super) sha: String,
}

impl Script {
    fn new(name: &'static str, flags: &str, parts: &[&str]) -> Self {
        let source = format!("#!lua{flags}\n{}", parts.concat());
        let sha = fred::util::sha1_hash(&source);
        Self { name, source, sha }
    }
}

const RECORD: &str = concat!(include_str!("lua/clock.lua"), include_str!("lua/record.lua"));
const CELL_STATE: &str = concat!(include_str!("lua/clock.lua"), include_str!("lua/cell.lua"));
const ALLOW_OOM: &str = " flags=allow-oom";
const NO_WRITES: &str = " flags=no-writes";

macro_rules! script {
    ($name:ident, $flags:expr, $($part:expr),+) => {
        pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(stringify!($name), $flags, &[$($part),+]));
    };
}

script!(CREATE, "", RECORD, include_str!("lua/create.lua"));
script!(ROTATE, "", RECORD, include_str!("lua/rotate.lua"));
script!(END, ALLOW_OOM, RECORD, include_str!("lua/end.lua"));
script!(END_USER, ALLOW_OOM, RECORD, include_str!("lua/end_user.lua"));
script!(LIST, NO_WRITES, RECORD, include_str!("lua/list.lua"));
script!(COUNTER, ALLOW_OOM, include_str!("lua/counter.lua"));
script!(RAISE, ALLOW_OOM, include_str!("lua/raise.lua"));
script!(ANNOUNCE, ALLOW_OOM, include_str!("lua/announce.lua"));
script!(CHARGE, "", CELL_STATE, include_str!("lua/charge.lua"));
script!(TAKE, "", CELL_STATE, include_str!("lua/take.lua"));
script!(REFUND, ALLOW_OOM, CELL_STATE, include_str!("lua/refund.lua"));
script!(CELL, NO_WRITES, CELL_STATE, include_str!("lua/cell_read.lua"));
script!(REMEMBER, "", include_str!("lua/remember.lua"));
script!(REMEMBERS, NO_WRITES, include_str!("lua/remembers.lua"));
