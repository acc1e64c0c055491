//! `end.lua`, `end_user.lua` and `list.lua`, and what `SessionRecord` says.

use countersign::clock::UnixMillis;
use countersign::model::record::{RecordState, SessionRecord};
use countersign::model::session::SessionView;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::runner::{Case, Done, ENDING, ENDING_OF_USER, LISTING, Records, Reply, Script, run};
use super::samples::{LATER, START, id, list, number, packed, record};

const CASES: usize = 1_500;

/// A record with this id, whose state, era, epoch and expiries are small numbers about `START`.
pub fn small_record(id: u128) -> impl Strategy<Value = SessionRecord> {
    let state = prop::sample::select(vec![
        RecordState::Live,
        RecordState::Live,
        RecordState::FastForwarded,
        RecordState::Tombstone { presented: 2 },
    ]);
    let client = prop::sample::select(vec!["default", "other"]);
    // Seconds about the times of the cases, where the expiry and the end of its record lie.
    let ends = || prop_oneof![2 => 3_600..3_610_i64, 1 => 0..10_i64, 2 => 90_000..90_003_i64];
    (state, client, 0..3_i64, 0..4_i64, ends(), ends()).prop_map(
        move |(state, client, era, epoch, idle_expires, expires)| {
            let mut record = record(id);
            record.state = state;
            record.client = client.parse().unwrap();
            record.era = era;
            record.epochs.user = epoch;
            record.idle_expires = UnixMillis(START + idle_expires * 1_000);
            record.expires = UnixMillis(START + expires * 1_000);
            record
        },
    )
}

/// A few records, about the number of which the scripts decide.
pub fn some_records() -> impl Strategy<Value = Vec<SessionRecord>> {
    // Ids whose first bytes differ and ids whose last bytes differ, not in the order of the map.
    let ids = [3, 1, 2, 1 << 127, 1 << 80, 1 << 40, (1 << 80) + 1, 250, 251].map(small_record);
    (ids, prop::collection::vec(any::<bool>(), 9)).prop_map(|(records, chosen)| {
        let chosen = records.into_iter().zip(chosen).filter(|(_, is_chosen)| *is_chosen);
        chosen.map(|(record, _)| record).collect()
    })
}

/// A time at one of the limits of [`small_record`], or between them.
pub fn time() -> impl Strategy<Value = UnixMillis> {
    let seconds = prop_oneof![3_600..3_612_i64, 7_200..7_212_i64, 0..12_i64];
    (seconds, 0..3_i64).prop_map(|(seconds, millis)| UnixMillis(START + seconds * 1_000 + millis - 1))
}

/// Random inputs, always the same ones.
pub fn generated<S: Strategy>(inputs: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count)
        .map(|_| inputs.new_tree(&mut runner).unwrap().current())
        .collect()
}

/// A run on these records.
fn case(records: &[SessionRecord], now: UnixMillis) -> Case {
    Case {
        arguments: Vec::new(),
        list: Vec::new(),
        records: packed(records),
        expires: LATER,
        now: now.0,
    }
}

fn live(records: &[&SessionRecord], now: UnixMillis) -> i64 {
    let live = records.iter().filter(|record| record.is_live(now)).count();
    i64::try_from(live).unwrap()
}

async fn compare(script: Script, cases: Vec<(Case, Reply, Records)>) {
    let run_on: Vec<Case> = cases.iter().map(|(case, ..)| case.clone()).collect();
    for (Done { reply, records, .. }, (case, expected, after)) in run(script, &run_on).await.into_iter().zip(cases) {
        assert_eq!((reply, records), (expected, after), "{case:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_end_as_in_the_model() {
    let cases = generated(&(some_records(), time(), 0..4_usize), CASES)
        .into_iter()
        .map(|(records, now, skipped)| {
            // Also an id without a record, and one that comes twice.
            let wanted: Vec<&SessionRecord> = records.iter().skip(skipped).collect();
            let mut ids: Vec<Vec<u8>> = wanted.iter().map(|record| id(record)).collect();
            ids.extend(ids.first().cloned());
            ids.push(vec![9; 16]);
            let is_ended = |record: &&SessionRecord| record.is_live(now) || record.has_expired(now);
            let ended: Vec<_> = wanted.into_iter().filter(is_ended).collect();
            let mut after = packed(&records);
            after.retain(|key, _| !ended.iter().any(|record| id(record) == *key));
            let case = Case {
                list: ids,
                ..case(&records, now)
            };
            (case, live(&ended, now).into(), after)
        });
    compare(ENDING, cases.collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_user_end_as_in_the_model() {
    let inputs = (some_records(), time(), 0..5_i64, 0..10_usize);
    let cases = generated(&inputs, CASES)
        .into_iter()
        .map(|(records, now, epoch, kept)| {
            let keep = records.get(kept).map(id).unwrap_or_default();
            let is_ended = |record: &&SessionRecord| record.epochs.user < epoch && id(record) != keep;
            let ended: Vec<_> = records.iter().filter(is_ended).collect();
            let mut after = packed(&records);
            after.retain(|key, _| !ended.iter().any(|record| id(record) == *key));
            let arguments = vec![
                ("cursor", b"0".to_vec()),
                ("max_read", number(1000)),
                ("epoch", number(epoch)),
                ("keep", keep),
            ];
            let reply = Reply::List(vec![live(&ended, now).into(), "0".into()]);
            let case = Case {
                arguments,
                ..case(&records, now)
            };
            (case, reply, after)
        });
    compare(ENDING_OF_USER, cases.collect()).await;
}

/// What the scripts return for one live session.
pub fn view_reply(view: &SessionView) -> Reply {
    let times = [view.created, view.refreshed, view.expires, view.absolute_expires];
    let epochs = [view.epochs.global, view.epochs.user, view.epochs.client];
    let context = &view.context;
    let mut reply = vec![Reply::Text(view.id.as_bytes().to_vec()), view.client.as_str().into()];
    reply.extend(times.map(|time| time.0.into()));
    reply.push(Reply::Text(list(&view.scope)));
    reply.extend(epochs.map(Reply::from));
    reply.extend([&context.user_agent, &context.ip_address, &context.device_name].map(|text| text.as_str().into()));
    Reply::List(reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_as_in_the_model() {
    let inputs: Vec<_> = generated(&(some_records(), time(), 0..3_i64), CASES);
    let arguments = |era| {
        vec![
            ("cursor", b"0".to_vec()),
            ("max_read", number(1000)),
            ("era", number(era)),
        ]
    };
    let case_of = |(records, now, era): &(Vec<SessionRecord>, UnixMillis, i64)| Case {
        arguments: arguments(*era),
        ..case(records, *now)
    };
    let cases: Vec<Case> = inputs.iter().map(case_of).collect();
    for ((records, now, era), done) in inputs.iter().zip(run(LISTING, &cases).await) {
        let is_listed = |record: &&SessionRecord| record.era == *era && record.is_live(*now);
        let mut expected: Vec<Reply> = records
            .iter()
            .filter(is_listed)
            .map(|record| view_reply(&record.view()))
            .collect();
        expected.sort();
        let Reply::List(mut reply) = done.reply else {
            panic!("a list")
        };
        assert_eq!(reply.pop(), Some("0".into()));
        let Some(Reply::List(mut sessions)) = reply.pop() else {
            panic!("a list of sessions")
        };
        sessions.sort();
        assert_eq!(sessions, expected);
        assert_eq!(done.records, packed(records), "a listing changes nothing");
    }
}
