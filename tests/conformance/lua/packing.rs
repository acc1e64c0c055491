//! The bytes of a record, as `record.lua` describes them, read and written again in Rust.

use countersign::clock::UnixMillis;
use countersign::model::record::{RecordState, SessionRecord};
use countersign::model::{ClientId, Epochs, SessionContext, SessionId, UserId};

pub const VERSION: u8 = 1;
const TOMBSTONE: u8 = 1;
const FAST_FORWARDED: u8 = 2;

/// Why bytes are no record of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    TooShort,
    OtherVersion,
    /// The rules take no such client id. The scripts pass it on unread.
    NoClientId,
}

/// The bytes of a record.
pub fn pack(record: &SessionRecord) -> Vec<u8> {
    let flags = match record.state {
        RecordState::Live => 0,
        RecordState::FastForwarded => FAST_FORWARDED,
        RecordState::Tombstone { .. } => TOMBSTONE,
    };
    let mut raw = vec![VERSION, flags];
    let six = |number: i64| number.to_be_bytes()[2..].to_vec();
    raw.extend(six(record.idle_expires.0));
    raw.extend(six(record.expires.0));
    raw.extend(six(record.epochs.user));
    raw.extend(record.secret_hash);
    raw.extend(record.generation.to_be_bytes());
    raw.extend(record.refresh_key.to_be_bytes());
    for number in [
        record.era,
        record.rotated.0,
        record.created.0,
        record.epochs.global,
        record.epochs.client,
    ] {
        raw.extend(six(number));
    }
    let (scope, audience) = (record.scope.join(" "), record.audience.join(" "));
    let context = &record.context;
    for (text, is_list) in [
        (record.client.as_str(), false),
        (&record.attempt_id, false),
        (&scope, true),
        (&audience, true),
        (&context.user_agent, false),
        (&context.ip_address, false),
        (&context.device_name, false),
    ] {
        let bytes = single_bytes(text);
        let len = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        raw.extend(if is_list { &len[..] } else { &len[1..] });
        raw.extend(bytes);
    }
    if let RecordState::Tombstone { presented } = record.state {
        raw.extend(presented.to_be_bytes());
    }
    raw
}

/// The record in these bytes, with this id and user. Bytes of a text become characters one by one, so that damaged texts can
/// be compared as well.
pub fn unpack(id: SessionId, user: UserId, raw: &[u8]) -> Result<SessionRecord, Unreadable> {
    let mut rest = raw;
    let [version, flags] = take(&mut rest)?;
    let [idle_expires, expires, user_epoch] = [(); 3].map(|()| six(&mut rest));
    if version != VERSION {
        // The head is read first.
        user_epoch?;
        return Err(Unreadable::OtherVersion);
    }
    let (idle_expires, expires, user_epoch) = (idle_expires?, expires?, user_epoch?);
    let secret_hash = take(&mut rest)?;
    let generation = u32::from_be_bytes(take(&mut rest)?);
    let refresh_key = u32::from_be_bytes(take(&mut rest)?);
    let [era, rotated, created, global, client_epoch] = [(); 5].map(|()| six(&mut rest));
    let (era, rotated, created) = (era?, rotated?, created?);
    let epochs = Epochs {
        global: global?,
        user: user_epoch,
        client: client_epoch?,
    };
    let client = short_text(&mut rest)?;
    let attempt_id = short_text(&mut rest)?;
    let scope = list(&mut rest)?;
    let audience = list(&mut rest)?;
    let context = SessionContext {
        user_agent: short_text(&mut rest)?,
        ip_address: short_text(&mut rest)?,
        device_name: short_text(&mut rest)?,
    };
    let state = match flags {
        reused if reused % 2 == TOMBSTONE => RecordState::Tombstone {
            presented: u32::from_be_bytes(take(&mut rest)?),
        },
        FAST_FORWARDED => RecordState::FastForwarded,
        _ => RecordState::Live,
    };
    let client = ClientId::parse(&client, "client_id").map_err(|_| Unreadable::NoClientId)?;
    Ok(SessionRecord {
        id,
        user,
        client,
        secret_hash,
        era,
        generation,
        refresh_key,
        rotated: UnixMillis(rotated),
        attempt_id,
        scope,
        audience,
        created: UnixMillis(created),
        idle_expires: UnixMillis(idle_expires),
        expires: UnixMillis(expires),
        epochs,
        state,
        context,
    })
}

/// The reverse of how [`unpack`] reads a text.
pub fn single_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Unreadable> {
    let (first, after) = rest.split_first_chunk::<N>().ok_or(Unreadable::TooShort)?;
    *rest = after;
    Ok(*first)
}

fn six(rest: &mut &[u8]) -> Result<i64, Unreadable> {
    let bytes: [u8; 6] = take(rest)?;
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | i64::from(*byte)))
}

fn text(rest: &mut &[u8], len: usize) -> Result<String, Unreadable> {
    let (bytes, after) = rest.split_at_checked(len).ok_or(Unreadable::TooShort)?;
    *rest = after;
    Ok(bytes.iter().copied().map(char::from).collect())
}

fn short_text(rest: &mut &[u8]) -> Result<String, Unreadable> {
    let [len] = take(rest)?;
    text(rest, len.into())
}

fn list(rest: &mut &[u8]) -> Result<Vec<String>, Unreadable> {
    let len = u16::from_be_bytes(take(rest)?);
    let names = text(rest, len.into())?;
    Ok(names
        .split(' ')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect())
}
