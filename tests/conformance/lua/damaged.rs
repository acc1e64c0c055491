//! Bytes that no store of this version wrote: too short, too long, changed, or of another version.

use countersign::model::record::{Next, RecordState, SessionRecord};
use countersign::model::session::Presented;

use super::packing::{Unreadable, VERSION, pack, unpack};
use super::runner::{Case, Done, ENDING, LISTING, ROTATION, Records, Script, run};
use super::samples::{HOUR, LATER, after, id, number, presented, record, rotation_case, rotation_reply, user};

/// The bytes of records in each state.
fn whole() -> Vec<Vec<u8>> {
    let states = [
        RecordState::Live,
        RecordState::FastForwarded,
        RecordState::Tombstone { presented: 1 },
    ];
    let with = |state| SessionRecord { state, ..record(1) };
    states.map(|state| pack(&with(state))).into()
}

/// Every prefix of those bytes, every single changed byte, and bytes that go on.
fn damaged() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for raw in whole() {
        all.extend((0..raw.len()).map(|len| raw[..len].to_vec()));
        for (at, change) in (0..raw.len()).flat_map(|at| [0x01, 0x02, 0x03, 0x80, 0xff].map(|change| (at, change))) {
            let mut changed = raw.clone();
            changed[at] ^= change;
            all.push(changed);
        }
        for more in 1..9 {
            let mut longer = raw.clone();
            longer.extend(vec![0xff; more]);
            all.push(longer);
        }
    }
    for flags in 0..=u8::MAX {
        for mut raw in whole() {
            raw[1] = flags;
            all.push(raw);
        }
    }
    for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
        all.push(vec![version; 20]);
        all.push(vec![version; 200]);
    }
    all
}

fn stored(raw: &[u8]) -> Records {
    Records::from([(id(&record(1)), raw.to_vec())])
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_bytes_rotate_as_in_the_model_or_fail_and_stay() {
    let now = record(1).rotated.plus(HOUR);
    let calls: Vec<Presented> = [0, 1, 3, 4]
        .map(|generation| Presented {
            generation,
            ..presented(&record(1))
        })
        .into();
    let pairs: Vec<(Vec<u8>, &Presented)> = damaged()
        .into_iter()
        .flat_map(|raw| calls.iter().map(move |call| (raw.clone(), call)))
        .collect();
    let cases: Vec<Case> = pairs
        .iter()
        .map(|(raw, call)| rotation_case(stored(raw), call, now))
        .collect();
    let done = run(ROTATION, &cases).await;
    let (mut readable, mut unreadable) = (0, 0);
    for ((raw, call), done) in pairs.iter().zip(done) {
        let failure = done.reply.failure();
        match unpack(record(1).id, user(), raw) {
            Ok(record) => {
                readable += 1;
                let (rotation, next) = record.present(call, now);
                assert_eq!(done.reply, rotation_reply(&rotation, now), "{raw:?}");
                assert_eq!(done.records, after(stored(raw), record.id, &next), "{raw:?}");
            }
            Err(Unreadable::NoClientId) => assert_eq!(failure, None, "{raw:?}"),
            Err(why) => {
                unreadable += 1;
                let error = failure.unwrap_or_else(|| panic!("{why:?} is read: {raw:?}"));
                assert_eq!(error.starts_with("VERSION"), why == Unreadable::OtherVersion, "{error}");
                assert_eq!(done.records, after(stored(raw), record(1).id, &Next::Same), "{raw:?}");
            }
        }
    }
    assert!(readable > 4_000 && unreadable > 4_000, "{readable} and {unreadable}");
}

/// Runs a script on each damaged record.
async fn on_damaged(script: Script, case: Case) -> Vec<(Vec<u8>, Done)> {
    let with = |raw: &Vec<u8>| Case {
        records: stored(raw),
        ..case.clone()
    };
    let cases: Vec<Case> = damaged().iter().map(with).collect();
    damaged().into_iter().zip(run(script, &cases).await).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_a_readable_head_can_be_ended() {
    let now = record(1).rotated.plus(HOUR).0;
    let case = Case {
        arguments: Vec::new(),
        list: vec![id(&record(1))],
        records: Records::new(),
        expires: LATER,
        now,
    };
    for (raw, done) in on_damaged(ENDING, case).await {
        // The head has 20 bytes: version, flags, idle expiry, absolute expiry, user epoch.
        let Some(head) = raw.first_chunk::<20>() else {
            assert!(
                done.reply.failure().is_some() && done.records == stored(&raw),
                "{raw:?}"
            );
            continue;
        };
        let six = |at: usize| {
            head[at..at + 6]
                .iter()
                .fold(0, |number, byte| number << 8 | i64::from(*byte))
        };
        let has_expired = now >= six(2).min(six(8));
        let is_tombstone = head[1] % 2 == 1;
        let stays = is_tombstone && !has_expired;
        assert_eq!(done.records.is_empty(), !stays, "{raw:?}");
        assert_eq!(done.reply, i64::from(!is_tombstone && !has_expired).into(), "{raw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_leaves_out_records_of_other_versions() {
    let case = Case {
        arguments: vec![
            ("cursor", b"0".to_vec()),
            ("max_read", number(1000)),
            ("era", number(1)),
        ],
        list: Vec::new(),
        records: Records::new(),
        expires: LATER,
        now: record(1).rotated.plus(HOUR).0,
    };
    for (raw, done) in on_damaged(LISTING, case).await {
        assert_eq!(done.records, stored(&raw), "a listing changes nothing");
        match unpack(record(1).id, user(), &raw) {
            Ok(_) | Err(Unreadable::OtherVersion | Unreadable::NoClientId) => {
                assert_eq!(done.reply.failure(), None, "{raw:?}");
            }
            Err(Unreadable::TooShort) => assert!(done.reply.failure().is_some(), "{raw:?}"),
        }
    }
}
