//! The Lua scripts: one for each operation, called by the SHA-1 of its text.
//!
//! Each script names its arguments once, in the line `local … = unpack(ARGV)` of its file, and `args!` names
//! them at the call. Debug builds, and so all tests, compare the two lists at every call.
//!
//! A script that only removes or announces carries the flag `allow-oom`: logouts must work while the memory of Redis is
//! full.

use std::sync::LazyLock;

use bytes::Bytes;
use fred::types::Value;

use super::Redis;
use crate::model::Result;

/// A script, with its text and name as Redis knows them.
#[derive(Debug)]
pub struct Script {
    /// The operation's name in traces.
    pub name: &'static str,
    /// The text.
    pub source: String,
    /// The SHA-1 of the text, in hexadecimal.
    pub sha: String,
}

impl Script {
    fn new(name: &'static str, flags: &str, parts: &[&str]) -> Self {
        let source = format!("#!lua{flags}\n{}", parts.concat());
        let sha = fred::util::sha1_hash(&source);
        Self { name, source, sha }
    }

    /// The names of the arguments, as the text declares them.
    fn parameters(&self) -> Vec<&str> {
        let Some((before, _)) = self.source.split_once("= unpack(ARGV)") else {
            return Vec::new();
        };
        let (_, names) = before.rsplit_once("local ").unwrap_or_default();
        names.split(',').map(str::trim).collect()
    }
}

/// The arguments of one call, in the order in which the script declares them. Made by `args!`. Not `Debug`, because
/// some values are hashes of secrets or ids of attempts.
pub struct Args {
    pub(super) names: &'static [&'static str],
    pub(super) values: Vec<Bytes>,
}

impl Args {
    /// Appends arguments that the script reads as a list, after its named ones.
    pub(super) fn followed_by(mut self, rest: impl IntoIterator<Item = Bytes>) -> Self {
        self.values.extend(rest);
        self
    }

    /// The values. Debug builds panic if `script` declares other names, or in another order.
    #[must_use]
    pub fn for_script(self, script: &Script) -> Vec<Bytes> {
        debug_assert_eq!(self.names, script.parameters(), "arguments of {}", script.name);
        self.values
    }
}

/// The named arguments of a script: `args! { session_id: …, limit: … }`.
macro_rules! args {
    ($($name:ident: $value:expr),* $(,)?) => {
        $crate::store::redis::script::Args {
            names: &[$(stringify!($name)),*],
            values: vec![$($value),*],
        }
    };
}
pub(super) use args;

/// Runs the scripts: the servers of [`Redis`], or the interpreter of a simulation.
pub trait RunScripts: Send + Sync {
    /// Runs a script on one key, once, and returns its reply.
    fn run_script(
        &self,
        script: &'static Script,
        key: String,
        args: Args,
    ) -> impl Future<Output = Result<Value>> + Send;

    /// The prefix of all keys.
    fn prefix(&self) -> &str;
}

impl RunScripts for Redis {
    async fn run_script(&self, script: &'static Script, key: String, args: Args) -> Result<Value> {
        Ok(self.run(script, key, args).await?.0)
    }

    fn prefix(&self) -> &str {
        &self.prefix
    }
}

const RECORD: &str = concat!(include_str!("lua/clock.lua"), include_str!("lua/record.lua"));
const GCRA: &str = concat!(include_str!("lua/clock.lua"), include_str!("lua/gcra.lua"));
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
script!(
    COUNTER,
    ALLOW_OOM,
    include_str!("lua/clock.lua"),
    include_str!("lua/counter.lua")
);
script!(RAISE, ALLOW_OOM, include_str!("lua/raise.lua"));
script!(ANNOUNCE, ALLOW_OOM, include_str!("lua/announce.lua"));
script!(
    SIDES,
    ALLOW_OOM,
    include_str!("lua/clock.lua"),
    include_str!("lua/sides.lua")
);
script!(TAKE, "", GCRA, include_str!("lua/take.lua"));
script!(REFUND, ALLOW_OOM, GCRA, include_str!("lua/refund.lua"));
script!(CELL, NO_WRITES, GCRA, include_str!("lua/cell_read.lua"));
script!(REMEMBER, "", include_str!("lua/remember.lua"));
script!(RIGHTS, NO_WRITES, include_str!("lua/rights.lua"));
script!(REMEMBERS, NO_WRITES, include_str!("lua/remembers.lua"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_declared_by_the_line_that_unpacks_argv() {
        let script = Script::new(
            "X",
            "",
            &["local a = 1\nlocal b, c,\n  d = unpack(ARGV)\nlocal e = unpack({})\n"],
        );
        assert_eq!(script.parameters(), ["b", "c", "d"]);
        assert!(REMEMBERS.parameters().is_empty());
    }
}
