//! The rights that the Redis user needs. A restricted user (`ACL SETUSER`) that lacks one is found at the start, not at the
//! first logout that needs it.

use fred::clients::WithOptions;
use fred::error::Error as FredError;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};

use super::script;

/// The rights of a user whose keys begin with the prefix `cs`, as `ACL SETUSER` takes them. No channel is used. `cluster` is
/// needed in a Redis Cluster only.
///
/// `deploy/make-secrets` and the runbook have the same text; a test compares them.
pub const ACL_RULES: &str = "resetkeys ~cs:* resetchannels -@all +eval +evalsha +ping +info +time +select +client|id +xread \
     +xinfo|stream +xadd +set +get +incr +exists +hset +hget +hgetall +hdel +hlen +hscan +pexpireat +scan +dbsize \
     +cluster|slots +cluster|info";

/// One call of each command that the service and its scripts use, on keys that begin with `KEY`.
const CALLS: &[&str] = &[
    "EVAL script 1 KEY",
    "EVALSHA sha 1 KEY",
    "PING",
    "INFO",
    "TIME",
    "SELECT 0",
    "CLIENT ID",
    "SCAN 0",
    "DBSIZE",
    "XREAD COUNT 1 STREAMS KEY 0-0",
    "XINFO STREAM KEY",
    "XADD KEY * field value",
    "SET KEY value PX 1",
    "GET KEY",
    "INCR KEY",
    "EXISTS KEY",
    "HSET KEY field value",
    "HGET KEY field",
    "HGETALL KEY",
    "HDEL KEY field",
    "HLEN KEY",
    "HSCAN KEY 0",
    "PEXPIREAT KEY 1",
];

/// The same for a cluster.
const CLUSTER_CALLS: &[&str] = &["CLUSTER SLOTS", "CLUSTER INFO"];

/// Why the Redis user of `client` cannot be used, by the rules of the server that `client` is bound to; none if it has all
/// rights. Changes nothing.
pub(super) async fn missing_rights(
    client: &WithOptions<fred::clients::Client>,
    prefix: &str,
    clustered: bool,
) -> Result<Option<String>, FredError> {
    // Every kind of key, because the pattern of a user may name only some of them.
    let keys = [
        "s:{probe}",
        "revocations",
        "sides",
        "counter:{0}",
        "t:{probe}",
        "r:{probe}",
    ]
    .map(|key| format!("{prefix}:{key}"));
    let on_keys = CALLS.iter().filter(|call| call.contains("KEY"));
    let mut calls: Vec<String> = keys
        .iter()
        .flat_map(|key| on_keys.clone().map(move |call| call.replace("KEY", key)))
        .collect();
    calls.extend(
        CALLS
            .iter()
            .filter(|call| !call.contains("KEY"))
            .map(|&call| call.to_owned()),
    );
    if clustered {
        calls.extend(CLUSTER_CALLS.iter().map(|&call| call.to_owned()));
    }
    let mut args: Vec<Value> = vec![script::RIGHTS.source.as_str().into(), 0.into()];
    args.extend(calls.iter().map(|call| call.as_str().into()));
    let eval = CustomCommand::new_static("EVAL", ClusterHash::Random, false);
    let refused: Vec<String> = match client.custom(eval, args).await {
        Ok(refused) => refused,
        Err(error) if is_refusal(&error) => vec!["EVAL".to_owned()],
        // A Sentinel; INFO tells.
        Err(error) if error.details().starts_with("ERR unknown command") => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(describe(&refused, prefix))
}

/// Whether Redis says that the user lacks a right.
pub(super) fn is_refusal(error: &FredError) -> bool {
    error.details().starts_with("NOPERM")
}

/// The message about calls that the user may not make.
fn describe(refused: &[String], prefix: &str) -> Option<String> {
    let mut commands: Vec<String> = refused.iter().map(|call| command(call)).collect();
    commands.sort();
    commands.dedup();
    let first = commands.first()?;
    // A user without access to the keys is refused every command that takes one.
    let of_keys = CALLS.iter().filter(|call| call.contains("KEY"));
    let list = if of_keys.clone().all(|call| commands.contains(&command(call))) {
        format!("commands on keys {prefix}:*")
    } else if commands.len() > 8 {
        format!("{first} and {} other commands", commands.len() - 1)
    } else {
        commands.join(", ")
    };
    Some(format!(
        "the Redis user of storage.redis_url may not run {list}: give it the rights {} (ACL SETUSER; ACL LOG shows refusals)",
        ACL_RULES.replace("~cs:*", &format!("~{prefix}:*"))
    ))
}

/// The command of a call, with its subcommand if it has one.
fn command(call: &str) -> String {
    let mut words = call.split(' ');
    let name = words.next().unwrap_or_default();
    match (name, words.next()) {
        ("XINFO" | "CLUSTER" | "CLIENT", Some(sub)) => format!("{name} {sub}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commands of the scripts are those that are checked, and the documented rules allow them.
    #[test]
    fn every_command_of_the_scripts_is_checked_and_documented() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/redis/lua");
        let mut found = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for call in text.split("redis.call(").skip(1) {
                let words: Vec<&str> = call.split('\'').collect();
                let name = words[1];
                let name = if name == "XINFO" { "XINFO STREAM" } else { name };
                let checked = CALLS.iter().any(|call| command(call) == name);
                assert!(checked, "{name} is not checked");
                found += 1;
            }
        }
        assert!(found > 20, "{found}");
        let rules = format!("{ACL_RULES} ");
        for call in CALLS.iter().chain(CLUSTER_CALLS) {
            let rule = format!(" +{} ", command(call).to_lowercase().replace(' ', "|"));
            assert!(rules.contains(&rule), "{rule} is not in the rules");
        }
        for rule in rules.split(' ').filter_map(|word| word.strip_prefix('+')) {
            let name = rule.to_uppercase().replace('|', " ");
            let checked = CALLS.iter().chain(CLUSTER_CALLS).any(|call| command(call) == name);
            assert!(checked, "{rule} is not checked");
        }
    }

    #[test]
    fn the_message_names_the_commands_and_the_rules() {
        let refused = |calls: &[&str]| {
            let calls: Vec<String> = calls.iter().map(|&call| call.to_owned()).collect();
            describe(&calls, "app")
        };
        assert_eq!(refused(&[]), None);
        let one = refused(&["HSET app:s:{probe} field value", "HSET app:revocations field value"]).unwrap();
        assert!(one.contains("may not run HSET:") && one.contains("~app:*"), "{one}");
        let sub = refused(&["XINFO STREAM app:revocations"]).unwrap();
        assert!(sub.contains("may not run XINFO STREAM:"), "{sub}");
        let keys = refused(
            &CALLS
                .iter()
                .copied()
                .filter(|call| call.contains("KEY"))
                .collect::<Vec<_>>(),
        )
        .unwrap();
        assert!(keys.contains("commands on keys app:*"), "{keys}");
    }
}
