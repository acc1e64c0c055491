//! The library `struct` of Redis, as far as the scripts use it: big-endian numbers `B` and `In`, and strings `cn`, where `c0`
//! is a string whose length is the number before it.

use mlua::{Lua, LuaString, MultiValue, Result, Value, Variadic};

/// Adds the global `struct`.
pub(super) fn install(lua: &Lua) -> Result<()> {
    let library = lua.create_table()?;
    let pack = lua.create_function(|lua, (format, values): (String, Variadic<Value>)| {
        lua.create_string(pack(&items(&format)?, &values)?)
    });
    library.set("pack", pack?)?;
    let unpack = lua.create_function(|lua, (format, data, at): (String, LuaString, Option<usize>)| {
        unpack(lua, &items(&format)?, &data.as_bytes(), at.unwrap_or(1))
    });
    library.set("unpack", unpack?)?;
    lua.globals().set("struct", library)
}

/// One item of a format, with its size.
enum Item {
    Number(usize),
    Text(usize),
}

fn items(format: &str) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    let mut rest = format.strip_prefix('>').unwrap_or(format);
    while let Some(kind) = rest.chars().next() {
        rest = &rest[1..];
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let size = rest[..digits].parse();
        rest = &rest[digits..];
        items.push(match (kind, size) {
            ('B', Err(_)) => Item::Number(1),
            ('I', Ok(size)) if format.starts_with('>') => Item::Number(size),
            ('c', Ok(size)) => Item::Text(size),
            _ => {
                return Err(mlua::Error::runtime(format!(
                    "the simulated Redis does not know the format {format}"
                )));
            }
        });
    }
    Ok(items)
}

fn pack(items: &[Item], values: &[Value]) -> Result<Vec<u8>> {
    let mut packed = Vec::new();
    for (item, value) in items.iter().zip(values) {
        match (item, value) {
            (Item::Number(size), value) => {
                let number = whole(value).ok_or_else(|| mlua::Error::runtime("struct.pack: not a whole number"))?;
                // Higher bytes are cut off, as Redis does.
                packed.extend_from_slice(&number.to_be_bytes()[8 - size..]);
            }
            (Item::Text(size), Value::String(text)) => {
                let bytes = text.as_bytes();
                if bytes.len() < *size {
                    return Err(mlua::Error::runtime("struct.pack: string too short"));
                }
                packed.extend_from_slice(if *size == 0 { &bytes[..] } else { &bytes[..*size] });
            }
            (Item::Text(_), _) => return Err(mlua::Error::runtime("struct.pack: not a string")),
        }
    }
    if values.len() < items.len() {
        return Err(mlua::Error::runtime("struct.pack: too few values"));
    }
    Ok(packed)
}

fn unpack(lua: &Lua, items: &[Item], data: &[u8], at: usize) -> Result<MultiValue> {
    let mut found: Vec<Value> = Vec::new();
    let mut at = at - 1;
    let too_short = || mlua::Error::runtime("struct.unpack: data string too short");
    for item in items {
        match item {
            Item::Number(size) => {
                let bytes = data.get(at..at + size).ok_or_else(too_short)?;
                let number = bytes.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte));
                found.push(Value::Integer(number));
                at += size;
            }
            Item::Text(size) => {
                let size = if *size == 0 {
                    let before = found.pop().as_ref().and_then(whole);
                    let size = before.and_then(|size| usize::try_from(size).ok());
                    size.ok_or_else(|| mlua::Error::runtime("struct.unpack: c0 without a size"))?
                } else {
                    *size
                };
                let bytes = data.get(at..at + size).ok_or_else(too_short)?;
                found.push(Value::String(lua.create_string(bytes)?));
                at += size;
            }
        }
    }
    found.push(Value::Integer(i64::try_from(at + 1).unwrap()));
    Ok(found.into())
}

/// A whole number. Lua 5.1 has floating point numbers only; none of ours has a fraction or is above 2^53.
pub(super) fn whole(value: &Value) -> Option<i64> {
    if let Value::Integer(number) = value {
        return Some(*number);
    }
    let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
    format!("{number:.0}").parse().ok()
}
