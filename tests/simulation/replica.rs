//! The replicas: the rules, keys, feed and validator of the service over stores that fail, each in a process that crashes
//! and starts again.

use std::ffi::OsString;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use countersign::app::{App, Stores};
use countersign::config::{Config, Layers};
use countersign::keys::seal::MasterKeyring;
use countersign::password::Pool;
use countersign::store::sqlite::Database;
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::announcements::{Bus, SimAnnouncements};
use crate::database::SimDatabase;
use crate::link::{Life, Link, Outage};
use crate::mutants::Mutant;
use crate::sessions::{Backend, SimSessions};
use crate::sim::{Sim, SimClock};
use crate::support::random::Random;

const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// How often a replica loads its keys again.
const KEYS_INTERVAL: Duration = Duration::from_secs(2);

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let settings = [
        ("PASSWORD__MEMORY_KIB", "64"),
        ("PASSWORD__ITERATIONS", "1"),
        ("TOKENS__ACCESS_TTL", "1h"),
        ("THROTTLE__ENABLED", "false"),
        // The checker of histories wants a grace that is longer than a run.
        ("TOKENS__REFRESH_GRACE", "5m"),
        ("REVOCATION__MAX_STALENESS", "5s"),
    ];
    let variable = |(name, value)| (OsString::from(format!("COUNTERSIGN_{name}")), OsString::from(value));
    Config::load(&Layers {
        file: None,
        environment: settings.map(variable).to_vec(),
        flags: Vec::new(),
    })
    .unwrap()
});

static MASTER: LazyLock<Arc<MasterKeyring>> =
    LazyLock::new(|| Arc::new(MasterKeyring::parse(&MASTER_KEY.into()).unwrap()));

pub(crate) fn issuer() -> &'static str {
    &CONFIG.tokens.issuer
}

/// What all replicas share.
pub(crate) struct Deployment {
    pub(crate) database: Database,
    pub(crate) sessions: Backend,
    pub(crate) bus: Arc<Bus>,
    pub(crate) database_outage: Arc<Outage>,
    pub(crate) sessions_outage: Arc<Outage>,
    pub(crate) mutant: Option<Mutant>,
}

/// A running process.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) app: Arc<App>,
    pub(crate) life: Life,
}

/// A replica, which may be down.
pub(crate) struct Replica {
    pub(crate) sim: Arc<Sim>,
    pub(crate) number: usize,
    pub(crate) clock: Arc<SimClock>,
    deployment: Arc<Deployment>,
    running: Mutex<Option<Running>>,
}

impl Replica {
    pub(crate) fn new(sim: &Arc<Sim>, number: usize, deployment: &Arc<Deployment>) -> Arc<Self> {
        Arc::new(Self {
            sim: sim.clone(),
            number,
            clock: sim.clock(0),
            deployment: deployment.clone(),
            running: Mutex::new(None),
        })
    }

    /// The process, if the replica is up.
    pub(crate) fn running(&self) -> Option<Running> {
        self.running.lock().clone()
    }

    /// Starts the process; none if a store does not answer, or if it crashes on the way.
    pub(crate) async fn start(&self) -> Option<Running> {
        let life = Life::default();
        let app = tokio::select! {
            biased;
            () = life.ended() => None,
            app = App::assemble(&CONFIG, self.stores(&life), MASTER.clone(), Pool::inline) => app.ok(),
        };
        let Some(app) = app else {
            life.crash();
            return None;
        };
        let stores = &app.stores;
        tokio::spawn(
            app.feed
                .clone()
                .run(stores.durable.clone(), stores.announcements.clone(), life.token()),
        );
        let (keys, ended) = (app.keys.clone(), life.token());
        tokio::spawn(ended.run_until_cancelled_owned(async move {
            loop {
                sleep(KEYS_INTERVAL).await;
                // The next one succeeds.
                let _ = keys.reload().await;
            }
        }));
        let running = Running { app, life };
        *self.running.lock() = Some(running.clone());
        self.sim.trace(|| format!("replica {} starts", self.number));
        Some(running)
    }

    /// Starts the process again whenever it has crashed.
    pub(crate) async fn keep_running(self: Arc<Self>, mut dice: Random) {
        loop {
            if let Some(running) = self.running() {
                running.life.ended().await;
                self.sim.trace(|| format!("replica {} has crashed", self.number));
                *self.running.lock() = None;
            }
            sleep(dice.millis(50, 1_500)).await;
            self.start().await;
        }
    }

    fn stores(&self, life: &Life) -> Stores {
        let (sim, shared, number) = (&self.sim, &self.deployment, self.number);
        let database_link = Link::new(
            sim,
            format!("r{number} db"),
            life.clone(),
            shared.database_outage.clone(),
        );
        let link = |name| {
            Link::new(
                sim,
                format!("r{number} {name}"),
                life.clone(),
                shared.sessions_outage.clone(),
            )
        };
        Stores::of(
            Arc::new(SimDatabase {
                real: shared.database.clone(),
                link: database_link,
                mutant: shared.mutant,
            }),
            Arc::new(SimSessions {
                real: shared.sessions.clone(),
                link: link("sessions"),
                mutant: shared.mutant,
            }),
            Some(Arc::new(SimAnnouncements {
                bus: shared.bus.clone(),
                link: link("stream"),
                mutant: shared.mutant,
            })),
            self.clock.clone(),
            sim.entropy(),
        )
    }
}
