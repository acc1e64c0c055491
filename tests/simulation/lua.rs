//! A small Redis in memory that runs the real Lua scripts of the store of sessions: the commands that they use, and the
//! library `struct`, as Redis documents them.

#[path = "lua/packing.rs"]
mod packing;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use countersign::clock::Clock;
use countersign::model::{Error, Result};
use countersign::store::redis::{Args, RunScripts, Script};
use fred::types::Value as Reply;
use mlua::{Function, IntoLuaMulti as _, Lua, LuaString, MultiValue, Value, Variadic};
use parking_lot::Mutex;

use self::packing::whole;

type Key = Vec<u8>;

/// All keys: hashes, each with the time at which it expires.
#[derive(Clone, Debug, Default)]
pub(crate) struct Data {
    hashes: BTreeMap<Key, Hash>,
}

/// The sessions of one user.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hash {
    pub(crate) fields: BTreeMap<Key, Vec<u8>>,
    pub(crate) expires: Option<i64>,
}

/// The server. Its clones are one server.
#[derive(Clone)]
pub(crate) struct LuaRedis(Arc<Server>);

struct Server {
    lua: Lua,
    data: Arc<Mutex<Data>>,
    functions: Mutex<HashMap<&'static str, Function>>,
    change: ChangeScript,
}

/// Gets the name and the text of a script, and returns the text that is run.
type ChangeScript = Box<dyn Fn(&str, &str) -> String + Send + Sync>;

impl LuaRedis {
    pub(crate) fn new(clock: Arc<dyn Clock>, change: ChangeScript) -> Self {
        let (lua, data) = (Lua::new(), Arc::new(Mutex::new(Data::default())));
        let redis = lua.create_table().unwrap();
        let shared = data.clone();
        let call = lua.create_function(move |lua, words: Variadic<Value>| {
            let words = words.iter().map(word).collect::<mlua::Result<Vec<_>>>()?;
            shared.lock().execute(lua, &words, clock.now().0)
        });
        redis.set("call", call.unwrap()).unwrap();
        let error_reply = lua.create_function(|lua, text: LuaString| {
            let error = lua.create_table()?;
            error.set("err", text)?;
            Ok(error)
        });
        redis.set("error_reply", error_reply.unwrap()).unwrap();
        lua.globals().set("redis", redis).unwrap();
        packing::install(&lua).unwrap();
        Self(Arc::new(Server {
            lua,
            data,
            functions: Mutex::default(),
            change,
        }))
    }

    /// A copy of all data, as a replica of the server has it.
    pub(crate) fn snapshot(&self) -> Data {
        self.0.data.lock().clone()
    }

    /// Replaces all data: the server was replaced by its replica.
    pub(crate) fn restore(&self, data: Data) {
        *self.0.data.lock() = data;
    }

    /// The sessions of one user.
    pub(crate) fn snapshot_of(&self, user: &str) -> Option<Hash> {
        self.0.data.lock().hashes.get(user_key(user).as_bytes()).cloned()
    }

    /// Replaces the sessions of one user.
    pub(crate) fn restore_of(&self, user: &str, sessions: Option<Hash>) {
        let (mut data, key) = (self.0.data.lock(), user_key(user).into_bytes());
        match sessions {
            Some(hash) => drop(data.hashes.insert(key, hash)),
            None => drop(data.hashes.remove(&key)),
        }
    }

    /// Copies the sessions of a user to another user.
    pub(crate) fn copy(&self, from: &str, to: &str) {
        let sessions = self.snapshot_of(from);
        self.restore_of(to, sessions);
    }

    fn function(&self, script: &'static Script) -> mlua::Result<Function> {
        let mut functions = self.0.functions.lock();
        if let Some(function) = functions.get(script.name) {
            return Ok(function.clone());
        }
        // Lua knows no line that begins with #!.
        let (_, source) = script.source.split_once('\n').unwrap();
        let source = (self.0.change)(script.name, source);
        let function = self.0.lua.load(source).set_name(script.name).into_function()?;
        functions.insert(script.name, function.clone());
        Ok(function)
    }

    fn evaluate(&self, script: &'static Script, key: &str, args: &[Bytes]) -> mlua::Result<Reply> {
        let lua = &self.0.lua;
        let function = self.function(script)?;
        lua.globals().set("KEYS", vec![key])?;
        let args = args
            .iter()
            .map(|arg| lua.create_string(arg))
            .collect::<mlua::Result<Vec<_>>>()?;
        lua.globals().set("ARGV", args)?;
        reply(&function.call::<Value>(())?)
    }
}

impl RunScripts for LuaRedis {
    async fn run_script(&self, script: &'static Script, key: String, args: Args) -> Result<Reply> {
        let done = self.evaluate(script, &key, &args.for_script(script));
        done.map_err(|error| Error::internal(error.to_string()))
    }

    fn prefix(&self) -> &'static str {
        PREFIX
    }
}

const PREFIX: &str = "cs";

fn user_key(user: &str) -> String {
    format!("{PREFIX}:s:{{{user}}}")
}

/// An argument of a command: a string or a whole number, as all of ours are.
fn word(value: &Value) -> mlua::Result<Vec<u8>> {
    if let Value::String(text) = value {
        return Ok(text.as_bytes().to_vec());
    }
    let number = whole(value).ok_or_else(|| mlua::Error::runtime("a command takes strings and whole numbers"))?;
    Ok(number.to_string().into_bytes())
}

/// The reply of a script, converted as Redis does.
fn reply(value: &Value) -> mlua::Result<Reply> {
    if let Value::String(text) = value {
        return Ok(Reply::Bytes(Bytes::copy_from_slice(&text.as_bytes())));
    }
    if let Some(number) = whole(value) {
        return Ok(Reply::Integer(number));
    }
    let Value::Table(table) = value else {
        return Err(mlua::Error::runtime(
            "a script returns strings, whole numbers and lists",
        ));
    };
    if let Ok(error) = table.get::<LuaString>("err") {
        return Err(mlua::Error::runtime(error.to_string_lossy()));
    }
    let list = table.sequence_values::<Value>().map(|item| reply(&item?));
    Ok(Reply::Array(list.collect::<mlua::Result<_>>()?))
}

impl Data {
    fn execute(&mut self, lua: &Lua, words: &[Vec<u8>], now: i64) -> mlua::Result<MultiValue> {
        self.hashes
            .retain(|_, hash| hash.expires.is_none_or(|expires| expires > now));
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        match words.as_slice() {
            [b"TIME"] => {
                let micros = now.rem_euclid(1_000) * 1_000;
                vec![now.div_euclid(1_000).to_string(), micros.to_string()].into_lua_multi(lua)
            }
            [b"HLEN", key] => self
                .hashes
                .get(*key)
                .map_or(0, |hash| hash.fields.len())
                .into_lua_multi(lua),
            [b"HGET", key, field] => {
                let found = self.hashes.get(*key).and_then(|hash| hash.fields.get(*field));
                match found {
                    Some(value) => lua.create_string(value)?.into_lua_multi(lua),
                    None => false.into_lua_multi(lua),
                }
            }
            [b"HGETALL", key] => {
                let mut all = Vec::new();
                for (field, value) in self.hashes.get(*key).iter().flat_map(|hash| &hash.fields) {
                    all.push(lua.create_string(field)?);
                    all.push(lua.create_string(value)?);
                }
                all.into_lua_multi(lua)
            }
            [b"HSET", key, field, value] => {
                let hash = self.hashes.entry(key.to_vec()).or_default();
                let is_new = hash.fields.insert(field.to_vec(), value.to_vec()).is_none();
                i64::from(is_new).into_lua_multi(lua)
            }
            [b"HDEL", key, field] => {
                let hash = self.hashes.get_mut(*key);
                let removed = hash.is_some_and(|hash| hash.fields.remove(*field).is_some());
                self.hashes.retain(|_, hash| !hash.fields.is_empty());
                i64::from(removed).into_lua_multi(lua)
            }
            [b"PEXPIREAT", key, at] => self.expire(key, at, false).into_lua_multi(lua),
            [b"PEXPIREAT", key, at, b"GT"] => self.expire(key, at, true).into_lua_multi(lua),
            _ => Err(mlua::Error::runtime(format!(
                "the simulated Redis does not know {}",
                String::from_utf8_lossy(words.first().unwrap_or(&&b""[..]))
            ))),
        }
    }

    /// With `only_later`, a key without an expiry keeps none.
    fn expire(&mut self, key: &[u8], at: &[u8], only_later: bool) -> i64 {
        let at: i64 = std::str::from_utf8(at).unwrap().parse().unwrap();
        let Some(hash) = self.hashes.get_mut(key) else { return 0 };
        if only_later && hash.expires.is_none_or(|expires| at <= expires) {
            return 0;
        }
        hash.expires = Some(at);
        1
    }
}
