//! Runs scripts on prepared records, many in one round trip.

use std::collections::BTreeMap;

use fred::interfaces::ClientLike as _;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};

use crate::support::KeySpace;

const RECORD: &str = include_str!("../../../src/store/redis/lua/record.lua");
const ROTATE: &str = include_str!("../../../src/store/redis/lua/rotate.lua");
const CREATE: &str = include_str!("../../../src/store/redis/lua/create.lua");
const END: &str = include_str!("../../../src/store/redis/lua/end.lua");
const END_USER: &str = include_str!("../../../src/store/redis/lua/end_user.lua");
const LIST: &str = include_str!("../../../src/store/redis/lua/list.lua");

/// Calls in one round trip.
const BATCH: usize = 500;

/// The records of a user: the bytes by session id.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A script of `src/store/redis/lua`.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    text: &'static str,
}

pub const ROTATION: Script = Script { text: ROTATE };
pub const CREATION: Script = Script { text: CREATE };
pub const ENDING: Script = Script { text: END };
pub const ENDING_OF_USER: Script = Script { text: END_USER };
pub const LISTING: Script = Script { text: LIST };

impl Script {
    /// The names of the arguments, as the script declares them.
    fn parameters(self) -> Vec<&'static str> {
        let Some((before, _)) = self.text.split_once("= unpack(ARGV)") else {
            return Vec::new();
        };
        let (_, names) = before.rsplit_once("local ").unwrap();
        names.split(',').map(str::trim).collect()
    }

    /// The script with a clock and records of the test. It returns the reply, the records, and when the key expires. The last
    /// arguments are the records, their number, when the key expires (0 for never) and the time.
    fn with_test_clock(self) -> String {
        format!(
            "#!lua
            local time_of_test = tonumber(table.remove(ARGV))
            local expires_of_test = table.remove(ARGV)
            redis.call('DEL', KEYS[1])
            for _ = 1, tonumber(table.remove(ARGV)) do
              local raw = table.remove(ARGV)
              redis.call('HSET', KEYS[1], table.remove(ARGV), raw)
            end
            if expires_of_test ~= '0' then redis.call('PEXPIREAT', KEYS[1], expires_of_test) end
            local function clock() return time_of_test end
            local function run()
              {RECORD}
              {}
            end
            local is_good, reply = pcall(run)
            local failure = type(reply) == 'table' and reply.err or not is_good and reply
            if failure then reply = {{ 'failed', tostring(failure) }} end
            return {{ reply, redis.call('HGETALL', KEYS[1]), redis.call('PEXPIRETIME', KEYS[1]) }}",
            self.text
        )
    }
}

/// One run of a script.
#[derive(Clone)]
pub struct Case {
    /// The named arguments, in the order of the script.
    pub arguments: Vec<(&'static str, Vec<u8>)>,
    /// Arguments that the script reads as a list.
    pub list: Vec<Vec<u8>>,
    pub records: Records,
    /// When the key of the records expires, in Unix milliseconds; 0 for never.
    pub expires: i64,
    /// The time of the script's clock, in Unix milliseconds.
    pub now: i64,
}

/// As a failure shows it: the bytes in hexadecimal digits.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        for (name, value) in &self.arguments {
            writeln!(
                f,
                "{name}: {}",
                String::from_utf8(value.clone()).unwrap_or_else(|_| hex(value))
            )?;
        }
        for value in &self.list {
            writeln!(f, "argument: {}", hex(value))?;
        }
        for (id, raw) in &self.records {
            writeln!(f, "record {}: {}", hex(id), hex(raw))?;
        }
        write!(f, "now: {}", self.now)
    }
}

/// The result of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub reply: Reply,
    pub records: Records,
    /// When the key of the records expires, in Unix milliseconds; -1 for never, -2 without a record.
    pub expires: i64,
}

/// A reply of Redis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    Number(i64),
    Text(Vec<u8>),
    List(Vec<Reply>),
}

impl From<i64> for Reply {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Reply {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<&str> for Reply {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl Reply {
    /// Whether the script failed, and with which error.
    pub fn failure(&self) -> Option<String> {
        match self {
            Self::List(list) => match list.as_slice() {
                [Self::Text(failed), Self::Text(error)] if failed == b"failed" => {
                    Some(String::from_utf8_lossy(error).into_owned())
                }
                _ => None,
            },
            Self::Number(_) | Self::Text(_) => None,
        }
    }

    fn of(value: Value) -> Self {
        if let Some(text) = value.as_bytes() {
            return Self::Text(text.to_vec());
        }
        if let Value::Integer(number) = value {
            return Self::Number(number);
        }
        let Value::Array(list) = value else {
            panic!("no script returns {value:?}")
        };
        Self::List(list.into_iter().map(Self::of).collect())
    }
}

/// Runs the script on each case.
pub async fn run(script: Script, cases: &[Case]) -> Vec<Done> {
    // Starting the server blocks the thread.
    let keys = tokio::task::spawn_blocking(KeySpace::fresh).await.unwrap();
    let client = Builder::from_config(Config::from_url(keys.url()).unwrap())
        .build()
        .unwrap();
    client.init().await.unwrap();
    let command = |name| CustomCommand::new_static(name, ClusterHash::FirstKey, false);
    let load: Vec<Value> = vec!["LOAD".into(), script.with_test_clock().into()];
    let hash: String = client.custom(command("SCRIPT"), load).await.unwrap();
    let key = format!("{}:s", keys.prefix());
    let mut done = Vec::new();
    for batch in cases.chunks(BATCH) {
        let pipeline = client.pipeline();
        for case in batch {
            let arguments = arguments(script, &hash, &key, case);
            let () = pipeline.custom(command("EVALSHA"), arguments).await.unwrap();
        }
        let replies = pipeline.try_all::<Value>().await.into_iter();
        done.extend(replies.map(|reply| read(reply.unwrap())));
    }
    assert_eq!(done.len(), cases.len());
    client.quit().await.unwrap();
    done
}

fn arguments(script: Script, hash: &str, key: &str, case: &Case) -> Vec<Value> {
    let names: Vec<&str> = case.arguments.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, script.parameters());
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec().into());
    let mut all: Vec<Value> = vec![hash.into(), "1".into(), key.into()];
    all.extend(case.arguments.iter().map(|(_, value)| bytes(value)));
    all.extend(case.list.iter().map(|value| bytes(value)));
    all.extend(case.records.iter().flat_map(|(id, raw)| [bytes(id), bytes(raw)]));
    let numbers = [
        case.records.len().to_string(),
        case.expires.to_string(),
        case.now.to_string(),
    ];
    all.extend(numbers.into_iter().map(Value::from));
    all
}

fn read(value: Value) -> Done {
    let Value::Array(parts) = value else {
        panic!("{value:?}")
    };
    let [reply, records, expires] = <[Value; 3]>::try_from(parts).unwrap().map(Reply::of);
    let (Reply::List(records), Reply::Number(expires)) = (records, expires) else {
        panic!("the records are a list")
    };
    let records = records.chunks(2).map(|pair| match pair {
        [Reply::Text(id), Reply::Text(raw)] => (id.clone(), raw.clone()),
        other => panic!("{other:?}"),
    });
    Done {
        reply,
        records: records.collect(),
        expires,
    }
}
