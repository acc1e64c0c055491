use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::revocation::{EpochSet, RevocationSubject};
use countersign::model::{AuditType, Epochs, Revocation, SessionId, Target, TokenId, UserId};
use countersign::secret::{SystemEntropy, random};
use countersign::store::{Expiry, NewRevocation};

use super::fresh::{self, TestStore};
use super::samples::*;

on_each!([sqlite, postgres, pooled] [
    a_token_session_or_key_is_revoked_once,
    a_second_revocation_writes_nothing,
    users_clients_and_everything_are_revoked_each_time,
    unknown_users_and_clients_are_not_revoked,
    concurrent_revocations_get_increasing_epochs,
    an_unknown_expiry_is_the_one_of_the_longest_session,
    random_subjects_are_revoked_as_by_the_model,
    only_expired_revocations_are_purged,
    the_era_is_raised_once_per_loss,
]);

fn until(target: Target, expires: UnixMillis) -> NewRevocation {
    NewRevocation {
        target,
        expires: Expiry::At(expires),
    }
}

async fn a_token_session_or_key_is_revoked_once(fresh: TestStore) {
    for target in [
        Target::Token(TokenId(uuid())),
        Target::Session(session()),
        Target::Key(key_id()),
    ] {
        let new = until(target.clone(), now().plus(Duration::from_hours(1)));
        let attempts = (0..6).map(|_| {
            let (fresh, new) = (fresh.clone(), new.clone());
            async move {
                fresh
                    .revoke(&new, &event(AuditType::TokenRevoked, &new.target.id()))
                    .await
                    .unwrap()
            }
        });
        let done = futures_util::future::join_all(attempts).await;
        assert_eq!(done.iter().filter(|done| done.new).count(), 1, "{target:?}");
        let row = done[0].revocation.clone().unwrap();
        assert!(
            done.iter().all(|done| done.revocation.as_ref() == Some(&row)),
            "all get the same row"
        );
        assert_eq!(
            (&row.target, row.epoch, Expiry::At(row.expires)),
            (&target, 0, new.expires)
        );
        assert_eq!(events_on(&fresh, &target.id()).await, 1);
    }
    assert_eq!(fresh.load_revocations(UnixMillis(0)).await.unwrap().rows.len(), 3);
}

async fn a_second_revocation_writes_nothing(fresh: TestStore) {
    for target in [
        Target::Token(TokenId(uuid())),
        Target::Session(session()),
        Target::Key(key_id()),
    ] {
        let first = until(target.clone(), now().plus(Duration::from_hours(1)));
        let recorded = fresh
            .revoke(&first, &event(AuditType::TokenRevoked, &target.id()))
            .await;
        let row = recorded.unwrap().revocation.unwrap();
        let before = fresh.load_revocations(UnixMillis(0)).await.unwrap();
        for expires in [
            first.expires,
            Expiry::At(now().plus(Duration::from_hours(9))),
            Expiry::LongestSession,
        ] {
            let again = NewRevocation {
                target: target.clone(),
                expires,
            };
            let recorded = fresh
                .revoke(&again, &event(AuditType::TokenRevoked, &target.id()))
                .await
                .unwrap();
            assert_eq!((recorded.revocation.as_ref(), recorded.new), (Some(&row), false));
        }
        assert_eq!(events_on(&fresh, &target.id()).await, 1);
        let after = fresh.load_revocations(UnixMillis(0)).await.unwrap();
        assert_eq!(after.rows, before.rows);
        if before.cursor.0.starts_with("s1.") {
            // Postgres counts the transactions of all tests in its cursor; `postgres::revoke` looks closer there.
            assert_eq!(after.cursor, before.cursor, "no number of the sequence is taken");
        }
    }
}

async fn users_clients_and_everything_are_revoked_each_time(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let client = make_client(&fresh, "web").await;
    let (first, second) = (session(), session());
    let keeping = |keep| Target::User {
        id: user.id,
        keep: Some(keep),
    };
    for target in [keeping(first), Target::Client(client.id.clone()), Target::Global] {
        let older = revoke(&fresh, target.clone()).await.unwrap();
        let newer = revoke(&fresh, target.clone()).await.unwrap();
        assert!(
            newer.epoch > older.epoch && newer.revoked >= older.revoked,
            "{target:?}"
        );
        assert_eq!((older.target, newer.target), (target.clone(), target));
    }
    // Two revocations that keep different sessions revoke both of them.
    revoke(&fresh, keeping(second)).await.unwrap();
    for kept in [first, second] {
        let view = fresh
            .refresh_view(user.id, &client.id, kept, Epochs::default())
            .await
            .unwrap();
        assert!(view.revoked);
    }
    assert_eq!(fresh.load_revocations(UnixMillis(0)).await.unwrap().rows.len(), 7);
}

async fn unknown_users_and_clients_are_not_revoked(fresh: TestStore) {
    for target in [everything_of(UserId(uuid())), Target::Client(client_id("missing"))] {
        let event = event(AuditType::UserRevoked, &"missing");
        let done = fresh.revoke(&until(target, now()), &event).await.unwrap();
        assert!(done.revocation.is_none() && !done.new);
    }
    assert_eq!(events_on(&fresh, &"missing").await, 0);
    assert!(fresh.load_revocations(UnixMillis(0)).await.unwrap().rows.is_empty());
}

async fn concurrent_revocations_get_increasing_epochs(fresh: TestStore) {
    let user = make_user(&fresh, "ada").await;
    let started = now();
    let attempts = (0..40).map(|_| {
        let (fresh, target) = (fresh.clone(), everything_of(user.id));
        async move { revoke(&fresh, target).await.unwrap().epoch }
    });
    // Five at once, which is the size of the pool.
    let mut raised = Vec::new();
    let mut attempts = attempts.collect::<Vec<_>>().into_iter();
    while attempts.len() > 0 {
        raised.extend(futures_util::future::join_all(attempts.by_ref().take(5)).await);
    }
    raised.sort_unstable();
    assert!(
        raised.windows(2).all(|pair| pair[0] < pair[1]),
        "each has its own epoch: {raised:?}"
    );
    assert!(raised[0] >= started.0, "at least Unix milliseconds");
    assert_eq!(epochs(&fresh, &user, "default").await.user, *raised.last().unwrap());
}

async fn an_unknown_expiry_is_the_one_of_the_longest_session(fresh: TestStore) {
    let life_of = async |target| {
        let new = NewRevocation {
            target,
            expires: Expiry::LongestSession,
        };
        let row = fresh.revoke(&new, &some_event()).await.unwrap().revocation.unwrap();
        assert!(row.expires > row.revoked);
        row.expires.since(row.revoked)
    };
    let a_session = || Target::Session(session());
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    let about = |life: Duration, expected: Duration| {
        let difference = life.abs_diff(expected);
        assert!(
            difference < Duration::from_secs(5),
            "{life:?} is not about {expected:?}"
        );
    };
    about(life_of(a_session()).await, day + hour);
    fresh.note_session_life(30 * day).await.unwrap();
    about(life_of(a_session()).await, 30 * day + hour);
    fresh.note_session_life(day).await.unwrap();
    about(life_of(a_session()).await, 30 * day + hour);

    let mut client = new_client("long");
    client.session_ttl = Some(90 * day);
    fresh.create_client(&client, None, &some_event()).await.unwrap();
    about(life_of(Target::Client(client.id.clone())).await, 90 * day + hour);
    let change = countersign::model::ClientChange {
        session_ttl: Some(Some(100 * day)),
        ..Default::default()
    };
    fresh
        .update_client(&client.id, &change, None, None, &some_event())
        .await
        .unwrap();
    fresh.delete_client(&client.id, None, &some_event()).await.unwrap();
    about(life_of(Target::Global).await, 100 * day + hour);
}

/// A random generator. It picks from few values, so that queries often concern a revocation.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }

    fn maybe<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        (self.roll(2) == 0).then(|| self.pick(from))
    }
}

async fn random_subjects_are_revoked_as_by_the_model(fresh: TestStore) {
    let seed = u64::from_le_bytes(random(&SystemEntropy)) | 1;
    let mut dice = Dice(seed);
    let users: Vec<UserId> = [make_user(&fresh, "ada").await, make_user(&fresh, "bob").await]
        .map(|u| u.id)
        .into();
    let clients: Vec<_> = [make_client(&fresh, "web").await, make_client(&fresh, "app").await]
        .map(|c| c.id)
        .into();
    let sessions: Vec<SessionId> = (0..4).map(|_| session()).collect();
    let tokens: Vec<TokenId> = (0..4).map(|_| TokenId(uuid())).collect();
    let keys: Vec<_> = (0..3).map(|_| key_id()).collect();

    let mut rows: Vec<Revocation> = Vec::new();
    for round in 0..12 {
        // Most revocations are of users, and few of everything, which would hide the effect of the others.
        let target = match dice.roll(12) {
            0 => Target::Token(dice.pick(&tokens)),
            1 => Target::Session(dice.pick(&sessions)),
            2 => Target::Client(dice.pick(&clients)),
            3 => Target::Key(dice.pick(&keys)),
            4 => Target::Global,
            _ => Target::User {
                id: dice.pick(&users),
                keep: dice.maybe(&sessions),
            },
        };
        rows.extend(revoke(&fresh, target).await);
        // Epochs equal to and next to the ones of the revocations.
        let mut around: Vec<i64> = rows
            .iter()
            .flat_map(|row| [row.epoch - 1, row.epoch, row.epoch + 1])
            .collect();
        around.push(0);
        let mut asked: Vec<(RevocationSubject, bool)> = Vec::new();
        for _ in 0..40 {
            let mut epochs = || Epochs {
                global: dice.pick(&around),
                user: dice.pick(&around),
                client: dice.pick(&around),
            };
            let parties = [epochs(), epochs(), epochs()];
            let revocation_subject = RevocationSubject {
                tokens: dice.maybe(&tokens).into_iter().collect(),
                sessions: dice.maybe(&sessions).into_iter().collect(),
                key: dice.maybe(&keys),
                epochs: parties[..dice.roll(4)]
                    .iter()
                    .map(|epochs| EpochSet {
                        user: dice.maybe(&users),
                        client: dice.pick(&clients),
                        session: dice.maybe(&sessions),
                        epochs: *epochs,
                    })
                    .collect(),
            };
            let model_says =
                |revocation_subject: &RevocationSubject| rows.iter().any(|row| revocation_subject.is_revoked_by(row));
            let answer = fresh.is_revoked(&revocation_subject).await.unwrap();
            assert_eq!(
                answer,
                model_says(&revocation_subject),
                "seed {seed}, round {round}: {revocation_subject:?}\n{rows:?}"
            );
            asked.push((revocation_subject, answer));

            let (user, client, session) = (dice.pick(&users), dice.pick(&clients), dice.pick(&sessions));
            let view = fresh.refresh_view(user, &client, session, parties[0]).await.unwrap();
            let revocation_subject = RevocationSubject::of_session(user, session, client, parties[0]);
            assert_eq!(
                view.revoked,
                model_says(&revocation_subject),
                "seed {seed}, round {round}: {revocation_subject:?}\n{rows:?}"
            );
        }
        let (revocation_subject, answers): (Vec<RevocationSubject>, Vec<bool>) = asked.into_iter().unzip();
        assert_eq!(
            fresh.revoked(&revocation_subject).await.unwrap(),
            answers,
            "asked together, seed {seed}"
        );
    }
    assert!(fresh.revoked(&[]).await.unwrap().is_empty());
}

async fn only_expired_revocations_are_purged(fresh: TestStore) {
    let (past, future) = (UnixMillis(now().0 - 1_000), now().plus(Duration::from_hours(1)));
    for expires in [past, past, past, future] {
        let new = until(Target::Session(session()), expires);
        fresh.revoke(&new, &some_event()).await.unwrap();
    }
    let before = fresh.load_revocations(UnixMillis(0)).await.unwrap();
    assert_eq!(before.rows.len(), 1, "expired revocations are not loaded");
    assert_eq!(fresh.purge_revocations(2).await.unwrap(), 2, "in small batches");
    assert_eq!(fresh.purge_revocations(2).await.unwrap(), 1);
    assert_eq!(fresh.purge_revocations(2).await.unwrap(), 0);
    assert_eq!(fresh.load_revocations(UnixMillis(0)).await.unwrap().rows, before.rows);
}

async fn the_era_is_raised_once_per_loss(fresh: TestStore) {
    let (era, counters) = fresh.era().await.unwrap();
    assert!(counters.is_empty());
    let counter = |name: &str, value| (name.to_owned(), value);
    let stored = fresh
        .store_counters(&[counter("a", 5), counter("b", 1)], None, era)
        .await
        .unwrap();
    assert_eq!(stored, era);
    fresh
        .store_counters(&[counter("a", 3), counter("b", 9)], None, era)
        .await
        .unwrap();
    assert_eq!(
        fresh.era().await.unwrap(),
        (era, vec![counter("a", 5), counter("b", 9)]),
        "counters only grow"
    );

    let racers = (0..6).map(|_| {
        let fresh = fresh.clone();
        async move {
            let lost = event(AuditType::SessionsLost, &"sessions");
            fresh.store_counters(&[], Some(&lost), era).await.unwrap()
        }
    });
    assert_eq!(futures_util::future::join_all(racers).await, [era + 1; 6]);
    assert_eq!(events_on(&fresh, &"sessions").await, 1);
    let user = make_user(&fresh, "ada").await;
    let login = fresh.login(&user.username, &client_id("web")).await.unwrap();
    let view = fresh
        .refresh_view(user.id, &client_id("web"), session(), Epochs::default())
        .await
        .unwrap();
    assert_eq!((login.era, view.era), (era + 1, era + 1));
    assert!(view.user.is_some() && view.client.is_none() && view.active_key.is_none());
    fresh.ping().await.unwrap();
}
