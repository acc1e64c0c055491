//! The rules for what the stores of sessions hold and answer.
//!
//! The first byte of an input gives its kind: the bytes of a record in Redis, which the real scripts read in a small Lua; a
//! reply of Redis; or a column of a row in SQLite.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use countersign::model::record::{Next, RecordState, SessionRecord};
use countersign::model::session::{NewSession, SessionView};
use countersign::model::{ErrorKind, Result, Rotation, SessionId};
use countersign::store::SessionStore as _;
use countersign::store::redis::{Args, RunScripts, Script, SessionScripts};
use countersign::store::sqlite::Database;
use fred::types::Value as Reply;
use rusqlite::types::Value as Column;
use uuid::Uuid;

use super::clock::StoppedClock;
use super::input::{take, take_slice};
use super::lua::{Hash, LuaRedis};
use super::packing::{Unreadable, pack, unpack};
use super::runtime::done;
use super::session::{HOUR, SECRET_HASH, START, new_session, now, presented, record, user};
use super::target::Target;

/// The properties of session records.
pub(crate) const TARGET: Target = Target {
    name: "record",
    inputs: 4_000,
    seeds,
    check,
};

const REDIS: u8 = 0;
const REPLY: u8 = 1;
const SQLITE: u8 = 2;

fn seeds() -> Vec<Vec<u8>> {
    let states = [
        RecordState::Live,
        RecordState::FastForwarded,
        RecordState::Tombstone { presented: 1 },
    ];
    let mut seeds: Vec<Vec<u8>> = states
        .into_iter()
        .map(|state| [&[REDIS, 1], &pack(&record(state))[..]].concat())
        .collect();
    // `list` and `rotate`: an array with a text, and numbers.
    for name in ["rotated", "replayed", "reused", "refused", "expired", "late"] {
        let mut reply = vec![REPLY, 1, 4, 14, 1, u8::try_from(name.len()).unwrap()];
        reply.extend(name.as_bytes());
        for number in [0_i64, 3, 5] {
            reply.push(0);
            reply.extend(number.to_be_bytes());
        }
        reply.extend([1, 4, b'r', b'e', b'a', b'd', 1, 0]);
        for _ in 0..8 {
            reply.push(0);
            reply.extend(START.0.to_be_bytes());
        }
        seeds.push(reply);
    }
    for (column, text) in [
        ("scope", "[\"read\"]"),
        ("client_id", "web"),
        ("attempt_id", "a"),
        ("id", "x"),
    ] {
        let at = COLUMNS.iter().position(|name| *name == column).unwrap();
        seeds.push([&[SQLITE, u8::try_from(at).unwrap(), 2], text.as_bytes()].concat());
    }
    for (column, number) in [("generation", 3), ("reused", 1), ("idle_expires", START.0), ("era", -1)] {
        let at = COLUMNS.iter().position(|name| *name == column).unwrap();
        let bytes: [u8; 8] = i64::to_be_bytes(number);
        seeds.push([&[SQLITE, u8::try_from(at).unwrap(), 1], &bytes[..]].concat());
    }
    seeds
}

/// Checks the rules for one input. Returns whether it was accepted.
fn check(input: &[u8]) -> bool {
    match input {
        [REDIS, generation, raw @ ..] => redis(u32::from(*generation) % 6, raw),
        [REPLY, call, tree @ ..] => reply(*call, tree),
        [SQLITE, column, value @ ..] => sqlite(*column, value),
        _ => false,
    }
}

/// One server for all inputs: the scripts are compiled once.
static SERVER: LazyLock<LuaRedis> =
    LazyLock::new(|| LuaRedis::new(Arc::new(StoppedClock(now())), Box::new(|_, source| source.to_owned())));

/// The scripts read the bytes as the model does, or fail and leave them as they are.
fn redis(generation: u32, raw: &[u8]) -> bool {
    let server = &*SERVER;
    let user = user().to_string();
    let id = record(RecordState::Live).id;
    let stored = Hash {
        fields: [(id.as_bytes().to_vec(), raw.to_vec())].into(),
        expires: Some(now().plus(HOUR * 24).0),
    };
    let restore = || server.restore_of(&user, Some(stored.clone()));
    let bytes_now = || {
        server
            .snapshot_of(&user)
            .and_then(|hash| hash.fields.get(&id.as_bytes()[..]).cloned())
    };
    restore();
    let scripts = SessionScripts(server);
    let presented = presented(generation);
    let rotated = done(scripts.rotate(&presented));
    let accepted = match unpack(id, presented.user, raw) {
        Ok(record) if is_ascii(&record) => {
            let (expected, next) = record.present(&presented, now());
            assert_eq!(rotated.as_ref().unwrap(), &expected);
            let after = match next {
                Next::Same => Some(raw.to_vec()),
                Next::Become(record) => Some(pack(&record)),
                Next::Gone => None,
            };
            assert_eq!(bytes_now(), after);
            expected.success().is_some()
        }
        // Texts that are not UTF-8 are an error if they are in the reply.
        Ok(_) | Err(Unreadable::NoClientId) => false,
        Err(Unreadable::TooShort | Unreadable::OtherVersion) => {
            assert!(rotated.is_err(), "unreadable bytes give {rotated:?}");
            assert_eq!(bytes_now().as_deref(), Some(raw), "changed, but not read");
            false
        }
    };
    restore();
    if let (Ok(views), Ok(record)) = (done(scripts.list(presented.user, 1)), unpack(id, presented.user, raw))
        && is_ascii(&record)
    {
        let is_listed = record.is_live(now()) && record.era == 1;
        assert_eq!(views, is_listed.then(|| record.view()).as_slice());
    }
    let _ = done(scripts.create(&new_session(), 1));
    restore();
    let _ = done(scripts.end_user(presented.user, 25, None));
    restore();
    let _ = done(scripts.end_all(presented.user, &[id]));
    accepted
}

/// Whether all texts of the record are read as they are written.
fn is_ascii(record: &SessionRecord) -> bool {
    let context = &record.context;
    [
        &record.attempt_id,
        &context.user_agent,
        &context.ip_address,
        &context.device_name,
    ]
    .into_iter()
    .chain(&record.scope)
    .chain(&record.audience)
    .all(|text| text.is_ascii())
}

/// A server that answers every script with the same reply.
struct Answers(Reply);

impl RunScripts for Answers {
    async fn run_script(&self, _: &'static Script, _: String, _: Args) -> Result<Reply> {
        Ok(self.0.clone())
    }

    fn prefix(&self) -> &'static str {
        "cs"
    }
}

/// The deepest lists in a reply.
const DEPTH: u32 = 4;

/// A reply in which each value begins with its type.
fn tree(input: &mut &[u8], depth: u32) -> Reply {
    let [kind] = take(input);
    match kind % 6 {
        0 => Reply::Integer(i64::from_be_bytes(take(input))),
        1 => Reply::Bytes(Bytes::copy_from_slice(take_slice(input))),
        2 => Reply::String(String::from_utf8_lossy(take_slice(input)).into_owned().into()),
        3 => Reply::Double(f64::from_be_bytes(take(input))),
        4 if depth > 0 && !input.is_empty() => {
            let [count] = take(input);
            Reply::Array((0..count % 32).map(|_| tree(input, depth - 1)).collect())
        }
        _ => Reply::Null,
    }
}

/// A reply that no script gives is a defect, never a success by chance.
fn reply(call: u8, mut input: &[u8]) -> bool {
    let reply = tree(&mut input, DEPTH);
    let is_list = matches!(reply, Reply::Array(_));
    let answers = Answers(reply);
    let scripts = SessionScripts(&answers);
    let result = match call % 5 {
        0 => done(scripts.list(user(), 1))
            .map(|views| assert!(views.is_sorted_by_key(|view: &SessionView| view.created))),
        1 => done(scripts.rotate(&presented(3))).map(|rotation| {
            let Rotation::FastForwarded { lost, .. } = rotation else {
                return;
            };
            assert!(lost > 0);
        }),
        2 => done(scripts.create(&new_session(), 1)).map(drop),
        3 => done(scripts.end_user(user(), 25, None)).map(drop),
        _ => return done(scripts.end_all(user(), &[])).is_ok(),
    };
    match result {
        Ok(()) => assert!(is_list),
        Err(error) => assert_eq!(error.kind, ErrorKind::Internal),
    }
    is_list
}

/// The columns of a session that the store reads.
const COLUMNS: [&str; 21] = [
    "id",
    "user_id",
    "client_id",
    "secret_hash",
    "era",
    "generation",
    "refresh_key",
    "rotated",
    "attempt_id",
    "scope",
    "audience",
    "created",
    "idle_expires",
    "expires",
    "epoch_global",
    "epoch_user",
    "epoch_client",
    "fast_forwarded",
    "reused",
    "user_agent",
    "device_name",
];

static DATABASE: LazyLock<Database> = LazyLock::new(|| Database::in_memory(Arc::new(StoppedClock(now()))).unwrap());

fn column(kind: u8, bytes: &[u8]) -> Column {
    match kind % 4 {
        0 => Column::Null,
        1 => Column::Integer(i64::from_be_bytes(take(&mut &*bytes))),
        2 => Column::Text(String::from_utf8_lossy(bytes).into_owned()),
        _ => Column::Blob(bytes.to_vec()),
    }
}

/// A row that another program changed is refused as a whole, or read as it is.
fn sqlite(at: u8, value: &[u8]) -> bool {
    let database = &*DATABASE;
    let name = COLUMNS[usize::from(at) % COLUMNS.len()];
    let (kind, bytes) = value.split_first().unwrap_or((&0, &[]));
    let value = column(*kind, bytes);
    let session = NewSession {
        id: SessionId(Uuid::from_u128(1)),
        secret_hash: SECRET_HASH,
        ..new_session()
    };
    let clear = || done(database.call(|tx| Ok(tx.run("DELETE FROM sessions", [])?))).unwrap();
    clear();
    done(database.create(&session, 10)).unwrap();
    let written = value.clone();
    let change = done(database.call(move |tx| Ok(tx.run(&format!("UPDATE sessions SET {name} = ?1"), [written])?)));
    if change.is_err() {
        // The schema refuses it.
        return false;
    }
    let before = row();
    let rotated = done(database.rotate(&presented(0)));
    if !rotated
        .as_ref()
        .is_ok_and(|rotation| !matches!(rotation, Rotation::Unknown | Rotation::Expired))
    {
        assert_eq!(row(), before, "changed, but not rotated");
    }
    if let Ok(Rotation::Rotated(rotated)) = &rotated {
        assert_eq!((rotated.generation, rotated.refresh_key), (1, 6));
        let names = if name == "scope" {
            &rotated.scope
        } else {
            &session.scope
        };
        if let (Column::Text(text), "scope") = (&value, name) {
            assert_eq!(serde_json::from_str::<Vec<String>>(text).unwrap(), *names);
        }
        let again = done(database.rotate(&presented(0)));
        assert!(matches!(again, Ok(Rotation::Replayed(again)) if again.generation == 1));
    }
    let _ = done(database.list(user(), 1));
    let _ = done(database.end_user(user(), 25, None));
    rotated.is_ok()
}

/// All columns of the one row.
fn row() -> Vec<Column> {
    let read = DATABASE.call(|tx| {
        let row = tx.first("SELECT * FROM sessions", [], |row| {
            let columns = (0..).map_while(|at| row.get::<usize, Column>(at).ok());
            Ok(columns.collect())
        })?;
        Ok(row.unwrap_or_default())
    });
    done(read).unwrap()
}
