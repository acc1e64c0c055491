//! The replicas of Countersign of a run, and their faults.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use nix::sys::signal::Signal;
use parking_lot::RwLock;
use tokio::runtime::Handle;

use super::kinds::ReplicaFault;
use crate::support::serve::Storage;
use crate::support::{Caller, Countersign, Keys, Proxy, WallTime, poll};

/// How long a replica may need to start while a store fails.
const START: Duration = Duration::from_mins(2);

/// The longest deadline that a client sets.
const DEADLINE: Duration = Duration::from_secs(5);

/// The replicas.
#[derive(Debug)]
pub(crate) struct Replicas {
    /// The addresses that callers use: the same after each restart.
    fronts: Vec<Proxy>,
    storages: Vec<Storage>,
    servers: Vec<Option<Countersign>>,
    /// The clock of the last replica.
    clock: WallTime,
    /// Where their metrics are.
    pub(crate) http: Arc<RwLock<Vec<String>>>,
    /// Logs of killed replicas that panicked.
    panics: Vec<String>,
    pub(crate) rotated_keys: usize,
}

impl Replicas {
    /// Starts a replica with each of these configurations.
    pub(crate) async fn start(mut storages: Vec<Storage>) -> Self {
        let clock = WallTime::shifted("+0s");
        if let Some(last) = storages.last_mut() {
            *last = clock.apply_to(last);
        }
        let mut fronts = Vec::new();
        for _ in &storages {
            fronts.push(Proxy::start(([127, 0, 0, 1], 1).into()).await);
        }
        let mut replicas = Self {
            fronts,
            servers: storages.iter().map(|_| None).collect(),
            http: Arc::new(RwLock::new(vec![String::new(); storages.len()])),
            storages,
            clock,
            panics: Vec::new(),
            rotated_keys: 0,
        };
        let start = move || {
            (0..replicas.servers.len()).for_each(|n| replicas.launch(n));
            replicas
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// A caller of each replica.
    pub(crate) fn callers(&self) -> Vec<Caller> {
        let url = |front: &Proxy| format!("http://{}", front.address());
        self.fronts
            .iter()
            .map(|front| Caller::with_deadline(&url(front), DEADLINE))
            .collect()
    }

    /// One of the running processes.
    pub(crate) fn server(&self, replica: usize) -> &Countersign {
        self.servers[replica].as_ref().expect("the replica runs")
    }

    /// Starts a replica, as often as it takes: it ends if Postgres cannot be reached.
    fn launch(&mut self, replica: usize) {
        let started = poll(START, || self.storages[replica].try_serve(&[]).ok());
        let server = started.expect("the replica starts when the stores are back");
        self.fronts[replica].redirect(server.grpc());
        self.http.write()[replica] = server.http_url();
        self.servers[replica] = Some(server);
    }

    fn take(&mut self, replica: usize) -> Countersign {
        let server = self.servers[replica].take().expect("the replica runs");
        self.note_panic(&server);
        server
    }

    fn note_panic(&mut self, server: &Countersign) {
        let log = server.log();
        if log.contains("panicked") {
            self.panics.push(log);
        }
    }

    /// Makes the fault, and repairs it.
    pub(crate) fn apply(&mut self, fault: ReplicaFault) {
        match fault {
            ReplicaFault::Kill { replica, down } => {
                self.take(replica).kill();
                sleep(down);
                self.launch(replica);
            }
            ReplicaFault::Restart { replica } => {
                let status = self.take(replica).stop();
                assert!(status.success(), "a replica that was told to stop ended with {status}");
                self.launch(replica);
            }
            ReplicaFault::Pause { replica, time } => {
                let server = self.servers[replica].as_mut().expect("the replica runs");
                server.signal(Signal::SIGSTOP);
                sleep(time);
                server.signal(Signal::SIGCONT);
            }
            ReplicaFault::StepClock { seconds, time } => {
                self.clock.set(&format!("{seconds:+}s"));
                sleep(time);
                self.clock.set("+0s");
            }
            ReplicaFault::RotateKey { replica, force } => {
                let keys = Keys::of(self.server(replica));
                // It fails if a store is away.
                let rotated = Handle::current().block_on(keys.rotate(force));
                self.rotated_keys += usize::from(rotated.is_ok());
            }
        }
    }

    /// Asserts that no replica has panicked.
    #[track_caller]
    pub(crate) fn assert_no_panics(&mut self) {
        for replica in 0..self.servers.len() {
            let server = self.take(replica);
            self.servers[replica] = Some(server);
        }
        assert!(self.panics.is_empty(), "{}", self.panics.join("\n"));
    }
}
