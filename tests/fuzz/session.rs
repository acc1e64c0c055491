//! A session of which the test knows everything.

use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::grant::Allowed;
use countersign::model::record::{RecordState, SessionRecord};
use countersign::model::session::{NewSession, Presented};
use countersign::model::{ClientId, Epochs, ReusePolicy, SessionContext, SessionId, UserId};
use uuid::Uuid;

pub(crate) const START: UnixMillis = UnixMillis(1_800_000_000_000);
pub(crate) const HOUR: Duration = Duration::from_hours(1);
pub(crate) const SECRET_HASH: [u8; 32] = [7; 32];
const GENERATION: u32 = 3;

pub(crate) fn now() -> UnixMillis {
    START.plus(HOUR * 2)
}

pub(crate) fn user() -> UserId {
    UserId(Uuid::from_u128(9))
}

/// A session that was refreshed an hour after its start.
pub(crate) fn record(state: RecordState) -> SessionRecord {
    SessionRecord {
        id: SessionId(Uuid::from_u128(1)),
        user: user(),
        client: ClientId::parse("web", "client_id").unwrap(),
        secret_hash: SECRET_HASH,
        era: 1,
        generation: GENERATION,
        refresh_key: 5,
        rotated: START.plus(HOUR),
        attempt_id: "a".to_owned(),
        scope: vec!["read".to_owned(), "write".to_owned()],
        audience: vec!["api".to_owned()],
        created: START,
        idle_expires: START.plus(HOUR * 3),
        expires: START.plus(HOUR * 6),
        epochs: Epochs {
            global: 10,
            user: 20,
            client: 30,
        },
        state,
        context: SessionContext {
            user_agent: "browser".to_owned(),
            ip_address: "10.0.0.1".to_owned(),
            device_name: "phone".to_owned(),
        },
    }
}

/// A refresh token of the session.
pub(crate) fn presented(generation: u32) -> Presented {
    let anything = Allowed {
        any: true,
        ..Allowed::default()
    };
    Presented {
        user: user(),
        session: SessionId(Uuid::from_u128(1)),
        secret_hash: SECRET_HASH,
        generation,
        attempt_id: "a".to_owned(),
        grace: Duration::from_secs(30),
        policy: ReusePolicy::Strict,
        idle_ttl: HOUR * 2,
        refresh_key: 6,
        era: 1,
        scope: Vec::new(),
        audience: Vec::new(),
        allowed_scope: anything.clone(),
        allowed_audience: anything,
        own_audience: "countersign".to_owned(),
        max_claims_bytes: 10_000,
        context: SessionContext::default(),
        may_be_late: false,
        not_after: None,
    }
}

pub(crate) fn new_session() -> NewSession {
    let old = record(RecordState::Live);
    NewSession {
        id: SessionId(Uuid::from_u128(2)),
        user: user(),
        client: old.client,
        secret_hash: [8; 32],
        refresh_key: 5,
        scope: old.scope,
        audience: old.audience,
        created: now(),
        idle_ttl: HOUR,
        expires: now().plus(HOUR * 6),
        epochs: old.epochs,
        era: 1,
        context: old.context,
    }
}
