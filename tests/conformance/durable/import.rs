//! `Users::import` over each store: rows of one name that are written at the same time.

use std::sync::Arc;
use std::time::Duration;

use countersign::account::users::{ImportRow, UserKey};
use countersign::account::{AuditTrail, Principal, UserDraft, Users};
use countersign::attempts::AttemptLog;
use countersign::clock::{Clock, SystemClock};
use countersign::config::{Config, Layers};
use countersign::keys::seal::MasterKeyring;
use countersign::password::{Peppers, Pool};
use countersign::revocation::{Feed, RevocationPublisher};
use countersign::secret::{Entropy, SecretText, SystemEntropy};
use countersign::store::local::LocalThrottles;
use countersign::store::sqlite::{Database, Mode};
use countersign::store::throttles::Rate;
use countersign::throttle::{Throttle, ThrottleConfig};
use futures_util::stream;

use super::fresh::{self, TestStore};

on_each!([sqlite, postgres, pooled] [
    of_rows_with_one_name_the_first_wins_and_the_others_are_reported,
]);

async fn of_rows_with_one_name_the_first_wins_and_the_others_are_reported(fresh: TestStore) {
    const NAMES: u32 = 100;
    let folder = tempfile::tempdir().unwrap();
    let users = users(&fresh, folder.path());
    let rows = (0..NAMES).flat_map(|n| {
        ["first", "second", "third"].map(|copy| {
            Ok(ImportRow {
                user: UserDraft {
                    // Names are compared without case.
                    username: format!("{}{n}", if copy == "third" { "USER" } else { "user" }),
                    display_name: copy.into(),
                    ..UserDraft::default()
                },
                password_hash: SecretText::default(),
            })
        })
    });
    let done = users.import(&Principal::owner(), stream::iter(rows)).await.unwrap();
    assert_eq!((done.imported, done.ended.is_none()), (NAMES, true), "{done:?}");
    let refused: Vec<(u32, &str)> = done
        .rejected
        .iter()
        .map(|row| (row.index, row.field.as_str()))
        .collect();
    let expected = (0..NAMES).flat_map(|n| [(3 * n + 1, "user.username"), (3 * n + 2, "user.username")]);
    assert_eq!(refused, expected.collect::<Vec<_>>());
    for n in 0..NAMES {
        let name = format!("user{n}");
        let user = users.get(&Principal::owner(), UserKey::Name(&name)).await.unwrap();
        assert_eq!(user.display_name, "first", "{name}");
    }
}

/// The users of a store. The parts that an import does not use work on an embedded store of their own.
fn users(fresh: &TestStore, folder: &std::path::Path) -> Users {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let other = Database::open(folder, Mode::Serve, Arc::clone(&clock)).unwrap();
    let config = Config::load(&Layers::default()).unwrap();
    let master = Arc::new(MasterKeyring::parse(&MasterKeyring::generate(&SystemEntropy)).unwrap());
    let rate = Rate {
        count: 5,
        per: Duration::from_hours(24),
    };
    let limits = ThrottleConfig {
        enabled: false,
        login: rate,
        account_source: rate,
        account: rate,
        source: rate,
        global: None,
        registration: rate,
        registration_global: rate,
        own_account: rate,
        waiting: 8,
    };
    let local = Arc::new(LocalThrottles::new(Arc::clone(&clock)));
    let feed = Feed::new(Arc::clone(&clock), Arc::clone(&entropy), config.revocation.clone());
    Users {
        store: Arc::clone(&fresh.store) as _,
        hashing: Arc::new(
            Pool::start(
                &config.password,
                Peppers::default(),
                Arc::clone(&clock),
                Arc::clone(&entropy),
            )
            .unwrap(),
        ),
        throttle: Arc::new(Throttle::new(
            None,
            local,
            Arc::clone(&master),
            Arc::clone(&clock),
            limits,
        )),
        trail: AuditTrail::new(Arc::clone(&fresh.store) as _, Arc::clone(&clock), Arc::clone(&entropy)),
        attempts: Arc::new(AttemptLog::new(
            Arc::new(other.clone()),
            master,
            Arc::clone(&clock),
            Arc::clone(&entropy),
            300,
        )),
        publisher: Arc::new(RevocationPublisher::new(feed, Arc::new(other), None)),
        clock,
        entropy,
        open_registration: false,
    }
}
