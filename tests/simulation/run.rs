//! One run from its seed to its findings.

use std::sync::Arc;
use std::time::Duration;

use countersign::clock::UnixMillis;
use countersign::model::audit::Origin;
use countersign::model::{AuditEvent, AuditType, Client, ClientId, Grant, User, UserId, Username};
use countersign::store::accounts::{Authority, NewUser};
use countersign::store::sqlite::Database;
use countersign::store::{ClientStore as _, UserStore as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::announcements::Bus;
use crate::clients::{CLIENTS, PASSWORD, World};
use crate::database::standby;
use crate::judge::{SETTLED_AFTER, judge};
use crate::link::Outage;
use crate::lua::{Data, LuaRedis};
use crate::mutants::Mutant;
use crate::plan::Disturbance;
use crate::replica::{Deployment, Replica};
use crate::sessions::Backend;
use crate::sim::Sim;
use crate::support::random::Random;
use crate::verifier::Verifier;

/// The longest run, by its own time: a run that takes longer hangs.
const LONGEST: Duration = Duration::from_mins(10);

/// The result of a run.
pub(crate) struct Finished {
    pub(crate) trace: String,
    /// What a correct service could not have answered.
    pub(crate) findings: Vec<String>,
    pub(crate) calls: usize,
}

/// Runs the schedule of a seed.
pub(crate) fn run(seed: u64) -> Finished {
    run_with(seed, None, None)
}

/// Runs a schedule in which a defect would have an effect, with the defect or without it.
pub(crate) fn run_with(seed: u64, provoked: Option<Mutant>, mutant: Option<Mutant>) -> Finished {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let sim = Sim::new(seed, provoked);
        sim.trace(|| format!("{:?}", sim.plan));
        let findings = match timeout(LONGEST, simulate(&sim, mutant)).await {
            Ok(findings) => findings,
            Err(_) => vec!["Hangs".to_owned()],
        };
        let calls = sim.record.calls.lock().len();
        Finished {
            trace: sim.take_trace(),
            findings,
            calls,
        }
    })
}

async fn simulate(sim: &Arc<Sim>, mutant: Option<Mutant>) -> Vec<String> {
    let database = Database::in_memory(sim.clock(0)).unwrap();
    let sessions = if sim.plan.scripts {
        let change = move |script: &str, source: &str| match mutant {
            Some(mutant) => mutant.change(script, source),
            None => source.to_owned(),
        };
        Backend::Scripts(LuaRedis::new(sim.clock(0), Box::new(change)))
    } else {
        Backend::Embedded(database.clone())
    };
    let deployment = Arc::new(Deployment {
        sessions,
        database,
        bus: Bus::new(sim.fork()),
        database_outage: Arc::default(),
        sessions_outage: Arc::default(),
        mutant,
    });
    let replicas: Vec<Arc<Replica>> = (0..sim.plan.replicas)
        .map(|number| Replica::new(sim, number, &deployment))
        .collect();
    let mut running = JoinSet::new();
    for replica in &replicas {
        replica.start().await.expect("nothing fails yet");
        running.spawn(replica.clone().keep_running(sim.fork()));
    }
    let users = create_accounts(sim, &deployment.database, &replicas[0]).await;
    let verifiers: Vec<Arc<Verifier>> = (0..sim.plan.verifiers).map(|_| Verifier::new(sim.clock(0))).collect();
    for verifier in &verifiers {
        running.spawn(verifier.clone().follow(replicas.clone(), sim.fork()));
    }
    if let Some(mutant) = mutant {
        mutant.prepare(&deployment.database).await;
    }
    let world = World::new(sim, &deployment, replicas.clone(), verifiers, users);
    for replica in &replicas {
        replica.running().expect("nothing fails yet").app.feed.loaded().await;
    }

    sim.set_calm(false);
    let mut clients = JoinSet::new();
    let plan = &sim.plan;
    (0..plan.owners).for_each(|_| drop(clients.spawn(world.clone().own(sim.fork()))));
    (0..plan.thieves).for_each(|_| drop(clients.spawn(world.clone().steal(sim.fork()))));
    (0..plan.revokers).for_each(|_| drop(clients.spawn(world.clone().revoke(sim.fork()))));
    if plan.has(Disturbance::Outages) {
        clients.spawn(fail_stores(sim.clone(), deployment.clone(), sim.fork()));
    }
    if let Backend::Scripts(redis) = &deployment.sessions
        && plan.has(Disturbance::Losses)
    {
        clients.spawn(lose_sessions(sim.clone(), redis.clone(), sim.fork()));
    }
    if plan.has(Disturbance::Promotion) {
        clients.spawn(replace_database(sim.clone(), deployment.database.clone(), sim.fork()));
    }
    if plan.has(Disturbance::Clocks) {
        clients.spawn(set_clocks(sim.clone(), replicas.clone(), sim.fork()));
    }
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            sim.record.find(format!("Panicked: {error}"));
        }
    }
    sim.set_calm(true);
    sim.trace(|| "calm".to_owned());
    sleep(SETTLED_AFTER).await;
    if plan.has(Disturbance::Restart) || plan.has(Disturbance::Promotion) {
        // Now the replicas know only what is stored.
        for replica in replicas.iter().filter_map(|replica| replica.running()) {
            replica.life.crash();
        }
        sleep(SETTLED_AFTER).await;
    }
    judge(&world).await
}

/// Takes stores out of reach for some time.
async fn fail_stores(sim: Arc<Sim>, deployment: Arc<Deployment>, mut dice: Random) {
    while sim.now() < sim.plan.length {
        sleep(dice.millis(200, 3_000)).await;
        let (name, outage): (_, &Outage) = match dice.below(2) {
            0 => ("database", &deployment.database_outage),
            _ => ("sessions", &deployment.sessions_outage),
        };
        sim.trace(|| format!("{name}: out of reach"));
        outage.set(true);
        sleep(dice.millis(100, 2_000)).await;
        outage.set(false);
        sim.trace(|| format!("{name}: in reach again"));
    }
}

/// Replaces the store of sessions by a replica that is behind by up to two seconds, or that is empty.
async fn lose_sessions(sim: Arc<Sim>, redis: LuaRedis, mut dice: Random) {
    while sim.now() < sim.plan.length {
        sleep(dice.millis(200, 3_000)).await;
        let mut data = redis.snapshot();
        if dice.below(4) == 0 {
            data = Data::default();
        } else {
            sleep(dice.millis(0, 2_000)).await;
        }
        sim.trace(|| "sessions: replaced by a replica".to_owned());
        redis.restore(data);
        sim.record.lose(sim.now());
    }
}

/// Replaces the database by a standby that is behind by up to a second.
async fn replace_database(sim: Arc<Sim>, database: Database, mut dice: Random) {
    while sim.now() < sim.plan.length {
        sleep(dice.millis(200, 4_000)).await;
        let stopped = sim.now();
        standby::stop_following(&database).await;
        sleep(dice.millis(0, 1_000)).await;
        standby::promote(&database).await;
        sim.trace(|| "database: replaced by a standby".to_owned());
        sim.record.promotions.lock().push((stopped, sim.now()));
    }
}

/// Sets the clocks of the replicas: no two differ by more than 4 s, less than tokens tolerate.
async fn set_clocks(sim: Arc<Sim>, replicas: Vec<Arc<Replica>>, mut dice: Random) {
    while sim.now() < sim.plan.length {
        let replica = &replicas[dice.below(replicas.len())];
        let offset = i64::try_from(dice.below(4_000)).unwrap() - 2_000;
        sim.trace(|| format!("replica {}: clock {offset} ms", replica.number));
        replica.clock.set(offset);
        sleep(dice.millis(200, 3_000)).await;
    }
}

async fn create_accounts(sim: &Sim, database: &Database, replica: &Replica) -> Vec<UserId> {
    let (now, entropy) = (UnixMillis(sim.wall()), sim.entropy());
    let event = |kind| AuditEvent::new(kind, &"simulation", &Origin::system(), now, &*entropy);
    for id in CLIENTS {
        let client = Client {
            id: ClientId::parse(id, "client_id").unwrap(),
            display_name: String::new(),
            grants: vec![Grant::Password],
            audiences: vec!["*".to_owned()],
            scopes: vec!["*".to_owned()],
            access_token_ttl: None,
            refresh_idle_ttl: None,
            session_ttl: None,
            refresh_grace: None,
            reuse_policy: None,
            max_sessions_per_user: 0,
            disabled: false,
            created: now,
            updated: now,
        };
        let event = event(AuditType::ClientCreated);
        database.create_client(&client, None, &event).await.unwrap();
    }
    let app = replica.running().expect("nothing fails yet").app;
    let password_hash = app.hashing.hash(PASSWORD.into(), Duration::MAX).await.unwrap();
    let mut users = Vec::new();
    for n in 0..sim.plan.users {
        let user = User {
            id: UserId::generate(now, &*entropy),
            username: Username::parse(&format!("user{n}"), "username").unwrap(),
            email: String::new(),
            display_name: String::new(),
            roles: Vec::new(),
            attributes: serde_json::Map::new(),
            disabled: false,
            created: now,
            updated: now,
            password_changed: now,
            last_login: None,
        };
        users.push(user.id);
        let password_hash = password_hash.clone();
        let (new, event) = (NewUser { user, password_hash }, event(AuditType::UserCreated));
        database.create_user(&new, Authority::Admin, &event).await.unwrap();
    }
    users
}
