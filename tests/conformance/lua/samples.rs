//! Records and presented tokens, and the arguments and replies of the scripts for them.

use std::time::Duration;

use countersign::clock::{UnixMillis, millis};
use countersign::model::grant::Allowed;
use countersign::model::record::{Next, RecordState, SessionRecord};
use countersign::model::session::{
    EXPIRED_RECORD_TTL, MAX_FAST_FORWARD, Presented, Refusal, Rotated, Rotation, SessionContext,
};
use countersign::model::{ClientId, Epochs, ReusePolicy, SessionId, UserId};
use uuid::Uuid;

use super::packing::{pack, single_bytes};
use super::runner::{Case, Records, Reply};
use crate::sessions::backends::names;

/// The start of every sample session: far in the future, so that Redis expires no key meanwhile.
pub const START: i64 = 4_000_000_000_000;
pub const HOUR: Duration = Duration::from_hours(1);
pub const GRACE: Duration = Duration::from_secs(30);
/// When a key expires whose expiry does not matter.
pub const LATER: i64 = START + 90_000_000_000;

pub fn user() -> UserId {
    UserId(Uuid::from_u128(9))
}

/// A live session that was refreshed an hour after its start and ends six hours after it.
pub fn record(id: u128) -> SessionRecord {
    let created = UnixMillis(START);
    let rotated = created.plus(HOUR);
    SessionRecord {
        id: SessionId(Uuid::from_u128(id)),
        user: user(),
        client: ClientId::default(),
        secret_hash: [7; 32],
        era: 1,
        generation: 3,
        refresh_key: 5,
        rotated,
        attempt_id: "a".into(),
        scope: names(&["read", "write"]),
        audience: names(&["api"]),
        created,
        idle_expires: rotated.plus(HOUR * 2),
        expires: created.plus(HOUR * 6),
        epochs: Epochs {
            global: 10,
            user: 20,
            client: 30,
        },
        state: RecordState::Live,
        context: SessionContext {
            user_agent: "browser".into(),
            ip_address: "10.0.0.1".into(),
            device_name: "phone".into(),
        },
    }
}

/// The current token of the session of `record`.
pub fn presented(record: &SessionRecord) -> Presented {
    let anything = Allowed {
        any: true,
        ..Allowed::default()
    };
    Presented {
        user: record.user,
        session: record.id,
        secret_hash: [7; 32],
        generation: record.generation,
        attempt_id: "a".into(),
        grace: GRACE,
        policy: ReusePolicy::Strict,
        idle_ttl: HOUR * 2,
        refresh_key: 6,
        era: 1,
        scope: Vec::new(),
        audience: Vec::new(),
        allowed_scope: anything.clone(),
        allowed_audience: anything,
        own_audience: "countersign".into(),
        max_claims_bytes: 10_000,
        context: SessionContext::default(),
        may_be_late: false,
        not_after: None,
    }
}

pub fn id(record: &SessionRecord) -> Vec<u8> {
    record.id.as_bytes().to_vec()
}

pub fn number(number: i64) -> Vec<u8> {
    number.to_string().into_bytes()
}

pub fn duration(duration: Duration) -> Vec<u8> {
    number(millis(duration))
}

fn flag(yes: bool) -> Vec<u8> {
    number(yes.into())
}

pub fn list(names: &[String]) -> Vec<u8> {
    single_bytes(&names.join(" "))
}

/// The records by their ids, packed.
pub fn packed<'r>(records: impl IntoIterator<Item = &'r SessionRecord>) -> Records {
    records.into_iter().map(|record| (id(record), pack(record))).collect()
}

/// A run of `rotate.lua`.
pub fn rotation_case(records: Records, presented: &Presented, now: UnixMillis) -> Case {
    let (scopes, audiences) = (&presented.allowed_scope, &presented.allowed_audience);
    let context = &presented.context;
    let arguments = vec![
        ("session_id", presented.session.as_bytes().to_vec()),
        ("secret_hash", presented.secret_hash.to_vec()),
        ("era", number(presented.era)),
        ("generation", number(presented.generation.into())),
        ("attempt_id", presented.attempt_id.clone().into_bytes()),
        ("grace", duration(presented.grace)),
        ("tolerant", flag(presented.policy == ReusePolicy::Tolerant)),
        ("idle_ttl", duration(presented.idle_ttl)),
        ("refresh_key", number(presented.refresh_key.into())),
        ("user_agent", context.user_agent.clone().into_bytes()),
        ("ip_address", context.ip_address.clone().into_bytes()),
        ("device_name", context.device_name.clone().into_bytes()),
        ("expired_record_ttl", duration(EXPIRED_RECORD_TTL)),
        ("max_fast_forward", number(MAX_FAST_FORWARD.into())),
        ("caller_scope_prefix", b"countersign:".to_vec()),
        ("scope_requested", list(&presented.scope)),
        ("scope_any", flag(scopes.any)),
        ("scope_own", flag(scopes.own)),
        ("scope_names", list(&scopes.names)),
        ("audience_requested", list(&presented.audience)),
        ("audience_any", flag(audiences.any)),
        ("audience_own", flag(audiences.own)),
        ("audience_names", list(&audiences.names)),
        ("own_audience", presented.own_audience.clone().into_bytes()),
        ("max_claims_bytes", number(presented.max_claims_bytes.into())),
        ("may_be_late", flag(presented.may_be_late)),
        ("not_after", number(presented.not_after.map_or(0, |time| time.0))),
    ];
    Case {
        arguments,
        list: Vec::new(),
        records,
        expires: LATER,
        now: now.0,
    }
}

/// What `rotate.lua` returns for this result at `now`.
pub fn rotation_reply(rotation: &Rotation, now: UnixMillis) -> Reply {
    let success = |name: &str, lost: u32, rotated: &Rotated| {
        let Rotated {
            generation,
            refresh_key,
            scope,
            audience,
            created,
            idle_expires,
            expires,
            now,
        } = rotated;
        let mut reply = vec![name.into(), lost.into(), (*generation).into(), (*refresh_key).into()];
        reply.extend([Reply::Text(list(scope)), Reply::Text(list(audience))]);
        reply.extend([created, idle_expires, expires, now].map(|time| time.0.into()));
        reply
    };
    Reply::List(match rotation {
        Rotation::Rotated(rotated) => success("rotated", 0, rotated),
        Rotation::FastForwarded { rotated, lost } => success("rotated", *lost, rotated),
        Rotation::Replayed(rotated) => success("replayed", 0, rotated),
        Rotation::Reused(evidence) => vec![
            "reused".into(),
            i64::from(evidence.first).into(),
            evidence.presented.into(),
            evidence.current.into(),
            evidence.rotated.0.into(),
            evidence.expires.0.into(),
        ],
        Rotation::Refused(refusal) => {
            let (what, why, name) = match refusal {
                Refusal::WiderScope(name) => ("scope", "wider", name.as_str()),
                Refusal::LostScope(name) => ("scope", "lost", name.as_str()),
                Refusal::WiderAudience(name) => ("audience", "wider", name.as_str()),
                Refusal::LostAudience(name) => ("audience", "lost", name.as_str()),
                Refusal::TooLarge => ("token", "large", ""),
            };
            let [refused, what, why] = ["refused", what, why].map(Reply::from);
            vec![refused, what, why, Reply::Text(single_bytes(name))]
        }
        Rotation::Late => vec!["late".into(), now.0.into()],
        Rotation::Expired => vec!["expired".into()],
        Rotation::Unknown => vec!["unknown".into()],
        Rotation::TooFarAhead => vec!["too_far_ahead".into()],
    })
}

/// The records afterwards.
pub fn after(mut records: Records, session: SessionId, next: &Next) -> Records {
    let id = session.as_bytes().to_vec();
    match next {
        Next::Same => {}
        Next::Become(record) => drop(records.insert(id, pack(record))),
        Next::Gone => drop(records.remove(&id)),
    }
    records
}
