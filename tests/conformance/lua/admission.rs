//! `create.lua`, and `SessionRecord::begin` and `admit`.

use countersign::clock::UnixMillis;
use countersign::model::record::{SessionRecord, admit};
use countersign::model::session::{EXPIRED_RECORD_TTL, MAX_EVICTED, NewSession, max_records};

use super::ending::{generated, some_records, time, view_reply};
use super::packing::pack;
use super::runner::{CREATION, Case, Reply, run};
use super::samples::{LATER, START, duration, id, list, number, packed, record};

const CASES: usize = 4_000;

/// The session that a login stores.
fn new_session(era: i64, idle_seconds: i64, seconds: i64) -> NewSession {
    let sample = record(200);
    NewSession {
        id: sample.id,
        user: sample.user,
        client: sample.client,
        secret_hash: sample.secret_hash,
        refresh_key: 5,
        scope: sample.scope,
        audience: sample.audience,
        created: sample.created,
        idle_ttl: std::time::Duration::from_secs(idle_seconds.unsigned_abs()),
        expires: UnixMillis(START + seconds * 1_000),
        epochs: sample.epochs,
        era,
        context: sample.context,
    }
}

/// A run of `create.lua` in which a user may have this many records.
fn creation(new: &NewSession, records: &[SessionRecord], limit: u32, most: u32, now: UnixMillis) -> Case {
    let arguments = vec![
        ("session_id", new.id.as_bytes().to_vec()),
        ("limit", number(limit.into())),
        ("max_records", number(most.into())),
        ("max_evicted", number(i64::try_from(MAX_EVICTED).unwrap())),
        ("max_read", number(10_000)),
        ("expired_record_ttl", duration(EXPIRED_RECORD_TTL)),
        ("idle_ttl", duration(new.idle_ttl)),
        ("secret_hash", new.secret_hash.to_vec()),
        ("refresh_key", number(new.refresh_key.into())),
        ("era", number(new.era)),
        ("client", new.client.as_str().into()),
        ("scope", list(&new.scope)),
        ("audience", list(&new.audience)),
        ("created", number(new.created.0)),
        ("expires", number(new.expires.0)),
        ("global_epoch", number(new.epochs.global)),
        ("user_epoch", number(new.epochs.user)),
        ("client_epoch", number(new.epochs.client)),
        ("user_agent", new.context.user_agent.clone().into_bytes()),
        ("ip_address", new.context.ip_address.clone().into_bytes()),
        ("device_name", new.context.device_name.clone().into_bytes()),
    ];
    Case {
        arguments,
        list: Vec::new(),
        records: packed(records),
        expires: LATER,
        now: now.0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_stores_and_removes_records_as_in_the_model() {
    let inputs = (
        some_records(),
        time(),
        0..3_i64,
        0..5_000_i64,
        5_000..20_000_i64,
        0..5_u32,
        1..9_u32,
    );
    let inputs = generated(&inputs, CASES);
    let sessions: Vec<NewSession> = inputs
        .iter()
        .map(|(_, _, era, idle, seconds, ..)| new_session(*era, *idle, *seconds))
        .collect();
    let cases: Vec<Case> = inputs
        .iter()
        .zip(&sessions)
        .map(|((records, now, .., limit, most), new)| creation(new, records, *limit, *most, *now))
        .collect();
    let (mut evictions, mut over_limits, mut removals) = (0, 0, 0);
    for (((records, now, .., limit, most), new), (case, done)) in inputs
        .iter()
        .zip(&sessions)
        .zip(cases.iter().zip(run(CREATION, &cases).await))
    {
        // The model takes the number of all records; its maximum is a thousand above the limit.
        let total = records.len() + max_records(*limit) as usize - *most as usize;
        let admission = admit(new, records, total, *limit, *now);
        let begun = SessionRecord::begin(new, *now);
        let evicted = admission.evicted.iter();
        let evicted = evicted.map(|session| {
            Reply::List(vec![
                Reply::Text(session.id.as_bytes().to_vec()),
                session.expires.0.into(),
            ])
        });
        let mut over_limit: Vec<Reply> = admission.over_limit.iter().map(view_reply).collect();
        over_limit.sort();
        let Reply::List(mut reply) = done.reply else {
            panic!("a list")
        };
        if let Some(Reply::List(views)) = reply.get_mut(1) {
            // The store puts them in order.
            views.sort();
        }
        let expected = vec![
            begun.idle_expires.0.into(),
            Reply::List(over_limit),
            Reply::List(evicted.collect()),
        ];
        assert_eq!(reply, expected, "{case:?}");

        let mut after = case.records.clone();
        let is_gone = |key: &Vec<u8>| {
            admission.removed.iter().any(|id| id.as_bytes()[..] == key[..])
                || admission
                    .evicted
                    .iter()
                    .any(|session| session.id.as_bytes()[..] == key[..])
        };
        after.retain(|key, _| !is_gone(key));
        after.insert(new.id.as_bytes().to_vec(), pack(&begun));
        assert_eq!(done.records, after, "{case:?}");

        let ends = records
            .iter()
            .filter(|record| !record.is_absent(*now))
            .map(SessionRecord::ends);
        let last = ends.chain([begun.idle_expires]).max().unwrap();
        assert_eq!(
            done.expires,
            last.plus(EXPIRED_RECORD_TTL).0,
            "the key lives as long as its last record"
        );
        assert!(!records.iter().any(|record| id(record) == new.id.as_bytes()[..]));
        evictions += usize::from(!admission.evicted.is_empty());
        over_limits += usize::from(!admission.over_limit.is_empty());
        removals += usize::from(!admission.removed.is_empty());
    }
    let seen = [evictions, over_limits, removals];
    assert!(seen.iter().all(|count| *count > CASES / 20), "{seen:?}");
}
