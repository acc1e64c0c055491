//! The calls of the real rules: `SessionRecord::present`, `RevocationSubject::is_revoked_by` and `Index`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::record::{Next, RecordState, SessionRecord};
use countersign::model::revocation::{RevocationSubject, Target as RealTarget};
use countersign::model::session::{Presented, Rotation, SessionContext};
use countersign::model::{ClientId, Epochs, KeyId, ReusePolicy, Revocation, SessionId, TokenId, UserId};
use countersign::revocation::Index;
use uuid::Uuid;

use super::state::{Holder, Kind, Record, Row, RowSet, Session, Target, has};

/// The time of every step. A record that is not recent rotated longer ago than the grace.
const NOW: UnixMillis = UnixMillis(1_000_000_000);
const GRACE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_hours(24 * 365);

/// The epoch of each level before any revocation.
pub const FIRST_EPOCH: u8 = 1;

static USER: UserId = UserId(Uuid::from_u128(7));
static CLIENTS: LazyLock<[ClientId; 2]> =
    LazyLock::new(|| ["app-a", "app-b"].map(|id| ClientId::parse(id, "client_id").unwrap()));
static OLD_KEY: LazyLock<KeyId> = LazyLock::new(|| KeyId::parse(&"a".repeat(43), "kid").unwrap());
static NEW_KEY: LazyLock<KeyId> = LazyLock::new(|| KeyId::parse(&"b".repeat(43), "kid").unwrap());

fn session_id(device: usize, number: u8) -> SessionId {
    SessionId(Uuid::from_u128(0x100 * (1 + device as u128) + u128::from(number)))
}

fn token_id(device: usize, number: u8, generation: u8) -> TokenId {
    TokenId(Uuid::from_u128(
        0x10_0000 * (1 + device as u128) + 0x100 * u128::from(number) + u128::from(generation),
    ))
}

/// A presented refresh token, and how the store is asked about it.
#[derive(Clone, Copy, Debug)]
pub struct Presentation {
    pub device: usize,
    pub number: u8,
    pub generation: u8,
    pub holder: Holder,
    pub has_grace: bool,
    /// Whether the deadline of the call has passed.
    pub is_late: bool,
    pub policy: ReusePolicy,
}

/// The id of the attempt in which `holder` presents this generation.
fn attempt_id(holder: Option<Holder>, generation: u8) -> String {
    match holder {
        None => String::new(),
        Some(Holder::Device) => format!("device-{generation}"),
        Some(Holder::Thief) => format!("thief-{generation}"),
    }
}

/// Presents a token with the real `SessionRecord::present`. Returns the result and the record afterwards.
pub fn present(record: Record, presentation: Presentation) -> (Rotation, Option<Record>) {
    let Presentation { device, generation, .. } = presentation;
    let real = real_record(record, device);
    let presented = Presented {
        user: USER,
        session: session_id(device, presentation.number),
        secret_hash: [presentation.number; 32],
        generation: generation.into(),
        attempt_id: attempt_id(Some(presentation.holder), generation),
        grace: if presentation.has_grace { GRACE } else { Duration::ZERO },
        policy: presentation.policy,
        idle_ttl: LONG,
        refresh_key: 0,
        era: 0,
        scope: Vec::new(),
        audience: Vec::new(),
        allowed_scope: countersign::model::grant::Allowed::default(),
        allowed_audience: countersign::model::grant::Allowed::default(),
        own_audience: String::new(),
        max_claims_bytes: u32::MAX,
        context: SessionContext::default(),
        may_be_late: false,
        not_after: presentation.is_late.then(|| NOW.minus(Duration::from_millis(1))),
    };
    let (rotation, next) = real.present(&presented, NOW);
    let after = match next {
        Next::Same => Some(record),
        Next::Become(next) => Some(compact(record, &next, presentation.holder)),
        Next::Gone => None,
    };
    (rotation, after)
}

fn real_record(record: Record, device: usize) -> SessionRecord {
    let rotated = if record.is_recent { NOW } else { NOW.minus(GRACE) };
    SessionRecord {
        id: session_id(device, record.number),
        user: USER,
        client: CLIENTS[device].clone(),
        secret_hash: [record.number; 32],
        era: 0,
        generation: record.generation.into(),
        refresh_key: 0,
        rotated,
        attempt_id: attempt_id(record.attempt, record.generation.saturating_sub(1)),
        scope: Vec::new(),
        audience: Vec::new(),
        created: UnixMillis(0),
        idle_expires: NOW.plus(LONG),
        expires: NOW.plus(LONG),
        epochs: Epochs::default(),
        state: match record.state {
            Kind::Live => RecordState::Live,
            Kind::FastForwarded => RecordState::FastForwarded,
            Kind::Tombstone { presented } => RecordState::Tombstone {
                presented: presented.into(),
            },
        },
        context: SessionContext::default(),
    }
}

fn compact(before: Record, after: &SessionRecord, holder: Holder) -> Record {
    let small = |generation: u32| u8::try_from(generation).unwrap();
    let generation = small(after.generation);
    // A tombstone has no attempt id.
    let attempt = if after.attempt_id.is_empty() {
        None
    } else if generation == before.generation {
        before.attempt
    } else {
        Some(holder)
    };
    Record {
        number: before.number,
        generation,
        attempt,
        is_recent: after.rotated == NOW,
        state: match after.state {
            RecordState::Live => Kind::Live,
            RecordState::FastForwarded => Kind::FastForwarded,
            RecordState::Tombstone { presented } => Kind::Tombstone {
                presented: small(presented),
            },
        },
    }
}

/// Everything by which a session or an access token can be revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    pub device: usize,
    pub session: Session,
    /// The generation of an access token, and whether the new key signed it; none for a refresh token.
    pub access: Option<(u8, bool)>,
}

/// A question to the index: the revocations in it with their epochs, and a subject.
type Question = (Vec<(Target, u8)>, usize, u8, [u8; 3], Option<(u8, bool)>);

thread_local! {
    static ANSWERS: RefCell<HashMap<Question, bool>> = RefCell::default();
}

/// Whether an index of these rows says that the subject is revoked. The real index answers each question once; its answer
/// must be that of `RevocationSubject::is_revoked_by`, which the predicates of the databases follow.
pub fn is_revoked(rows: &[Row], known: RowSet, epoch: impl Fn(usize) -> u8, subject: Subject) -> bool {
    if known == 0 {
        return false;
    }
    let known = (0..rows.len()).filter(|row| has(known, *row));
    let question: Question = (
        known.map(|row| (rows[row].target, epoch(row))).collect(),
        subject.device,
        subject.session.number,
        subject.session.epochs,
        subject.access,
    );
    if let Some(answer) = ANSWERS.with_borrow(|answers| answers.get(&question).copied()) {
        return answer;
    }
    let real = real_subject(subject);
    let index = Index::new();
    let mut by_definition = false;
    for (target, epoch) in &question.0 {
        let revocation = real_revocation(*target, *epoch);
        by_definition |= real.is_revoked_by(&revocation);
        index.insert(&revocation);
    }
    let answer = index.is_revoked(&real);
    assert_eq!(
        answer, by_definition,
        "the index and the definition of a revocation differ: {question:?}"
    );
    ANSWERS.with_borrow_mut(|answers| answers.insert(question, answer));
    answer
}

fn real_subject(subject: Subject) -> RevocationSubject {
    let Subject {
        device,
        session,
        access,
    } = subject;
    let [global, user, client] = session.epochs.map(i64::from);
    let id = session_id(device, session.number);
    let mut real = RevocationSubject::of_session(USER, id, CLIENTS[device].clone(), Epochs { global, user, client });
    if let Some((generation, new_key)) = access {
        real.tokens.push(token_id(device, session.number, generation));
        real.key = Some(if new_key { NEW_KEY.clone() } else { OLD_KEY.clone() });
    }
    real
}

fn real_revocation(target: Target, epoch: u8) -> Revocation {
    let (target, has_epoch) = match target {
        Target::Token {
            device,
            number,
            generation,
        } => (RealTarget::Token(token_id(device, number, generation)), false),
        Target::Session { device, number } => (RealTarget::Session(session_id(device, number)), false),
        Target::User => (RealTarget::User { id: USER, keep: None }, true),
        Target::UserBut { device, number } => {
            let keep = Some(session_id(device, number));
            (RealTarget::User { id: USER, keep }, true)
        }
        Target::Client { device } => (RealTarget::Client(CLIENTS[device].clone()), true),
        Target::Key => (RealTarget::Key(OLD_KEY.clone()), false),
        Target::Global => (RealTarget::Global, true),
    };
    Revocation {
        target,
        epoch: if has_epoch { epoch.into() } else { 0 },
        expires: NOW.plus(LONG),
        revoked: NOW,
    }
}
