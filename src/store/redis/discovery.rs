//! Follows the Sentinels or the cluster: asks all known nodes twice a second which servers are masters.
//!
//! The client library asks one node, only when a connection breaks, and believes what it says; that node may have been frozen
//! or cut off during a failover.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::error::Error as FredError;
use fred::interfaces::ClientLike as _;
use fred::types::config::{Options, Server};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

use super::failure::is_answer;
use super::health::stay_connected;
use super::members::{self, Answer, Members};
use super::settings::{at, resident};
use super::topology::{self, Topology};

/// The pause between two questions to a node.
const INTERVAL: Duration = Duration::from_millis(500);

/// The shortest pause, while calls find that the known masters are wrong.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

/// How long an answer counts if the node says nothing after it.
const ANSWER_TTL: Duration = Duration::from_secs(3);

/// How long the first decision waits for the majority of the nodes: one that answers quickly may be out of date.
const FIRST_ANSWERS: Duration = Duration::from_secs(1);

/// The most nodes that are asked. The configured ones come first, then masters.
pub(super) const MAX_NODES: usize = 32;

/// The end of the message about such a node.
pub(super) const OF_ANOTHER_DEPLOYMENT: &str = "belongs to another deployment of Redis and is not followed: take it out of storage.redis_url, or \
                                     make the Sentinels or the cluster forget its address (SENTINEL RESET, CLUSTER FORGET)";

/// What is asked.
#[derive(Clone, Debug)]
enum Question {
    /// A Sentinel, for the master of this name.
    Master(String),
    /// A node of a cluster, for the masters of all slots.
    Slots,
}

/// How to find the masters.
#[derive(Clone, Debug)]
pub(super) struct Finder {
    question: Question,
    /// Builds connections to the nodes that are asked.
    pub(super) builder: Builder,
    /// The nodes of the configuration.
    pub(super) seeds: Vec<Server>,
    pub(super) timeout: Duration,
}

/// The masters as they are known now, and the nodes that are asked.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// None until a node has answered.
    pub(super) topology: watch::Receiver<Option<Arc<Topology>>>,
    pub(super) nodes: watch::Receiver<Members>,
    /// A change makes the nodes be asked at once.
    wake: Arc<watch::Sender<()>>,
}

impl Found {
    /// One server, which needs no search.
    pub(super) fn single() -> Self {
        Self {
            topology: watch::channel(Some(Arc::new(Topology::single()))).1,
            nodes: watch::channel(Members::default()).1,
            wake: Arc::new(watch::Sender::new(())),
        }
    }

    /// Asks the nodes at once, because a call found that the known masters are wrong.
    pub(super) fn ask_again(&self) {
        self.wake.send_replace(());
    }
}

impl Finder {
    /// Asks Sentinels for the master `service`.
    pub(super) fn of_sentinels(builder: Builder, seeds: Vec<Server>, service: String, timeout: Duration) -> Self {
        let question = Question::Master(service);
        Self {
            question,
            builder,
            seeds,
            timeout,
        }
    }

    /// Asks nodes of a cluster.
    pub(super) fn of_cluster(builder: Builder, seeds: Vec<Server>, timeout: Duration) -> Self {
        let question = Question::Slots;
        Self {
            question,
            builder,
            seeds,
            timeout,
        }
    }

    /// The nodes of the configuration.
    pub(super) fn seeds(&self) -> &[Server] {
        &self.seeds
    }

    pub(super) async fn ask(&self, client: &Client, server: &Server) -> Result<Topology, FredError> {
        let client = client.with_options(&Options {
            max_attempts: Some(1),
            timeout: Some(self.timeout),
            fail_fast: true,
            ..Options::default()
        });
        let command = |name| CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        match &self.question {
            Question::Master(service) => {
                let sentinel = |words: &'static str| {
                    let words: Vec<Value> = vec![words.into(), service.as_str().into()];
                    client.custom::<Value, Value>(command("SENTINEL"), words)
                };
                // In this order, see `of_sentinel`.
                let state = match sentinel("MASTER").await {
                    Err(error) if error.details().starts_with("NOPERM") => Value::Null,
                    state => state?,
                };
                let address = sentinel("GET-MASTER-ADDR-BY-NAME").await?;
                let others = sentinel("SENTINELS").await.unwrap_or(Value::Null);
                let own = match client.custom(command("SENTINEL"), vec!["MYID"]).await {
                    // It may not ask for the id.
                    Err(error) if is_answer(&error) => Value::Null,
                    own => own?,
                };
                topology::of_sentinel(state, address, others, &own)
            }
            Question::Slots => {
                let info: String = client.custom(command("CLUSTER"), vec!["INFO"]).await?;
                let slots: Value = client.custom(command("CLUSTER"), vec!["SLOTS"]).await?;
                topology::of_cluster(&info, slots, &server.host)
            }
        }
    }

    /// The nodes of the configuration and these, each once and not too many.
    pub(super) fn nodes_with(&self, known: &[Server]) -> Vec<Server> {
        let mut nodes: Vec<Server> = Vec::new();
        for server in self.seeds.iter().chain(known) {
            if nodes.len() < MAX_NODES && !nodes.contains(server) {
                nodes.push(server.clone());
            }
        }
        nodes
    }

    /// Starts to follow the masters. `remembered` nodes are asked only if no node of the configuration answers at first, and count only
    /// if they name a remembered id: by now their addresses may be those of another deployment.
    pub(super) fn follow(self, remembered: Members) -> (Found, AbortOnDropHandle<()>) {
        let (topology, found) = watch::channel(None);
        let (nodes, asked) = watch::channel(Members {
            servers: self.nodes_with(&[]),
            ids: remembered.ids,
        });
        let wake = Arc::new(watch::Sender::new(()));
        let following = Following {
            finder: Arc::new(self),
            topology,
            nodes,
            remembered: remembered.servers,
            ignored: Vec::new(),
            wake: wake.subscribe(),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(following.run()));
        let found = Found {
            topology: found,
            nodes: asked,
            wake,
        };
        (found, task)
    }
}

/// The task that decides.
struct Following {
    finder: Arc<Finder>,
    topology: watch::Sender<Option<Arc<Topology>>>,
    nodes: watch::Sender<Members>,
    remembered: Vec<Server>,
    /// The nodes of other deployments of which the log has told.
    ignored: Vec<Server>,
    wake: watch::Receiver<()>,
}

impl Following {
    async fn run(mut self) {
        let (sender, mut answers) = mpsc::channel(MAX_NODES);
        let mut scouts: HashMap<Server, AbortOnDropHandle<()>> = HashMap::new();
        let mut latest: Vec<(Instant, Answer)> = Vec::new();
        let started = Instant::now();
        loop {
            let asked = self.nodes.borrow().servers.clone();
            scouts.retain(|server, _| asked.contains(server));
            for server in &asked {
                scouts.entry(server.clone()).or_insert_with(|| {
                    let scout = scout(
                        Arc::clone(&self.finder),
                        server.clone(),
                        sender.clone(),
                        self.wake.clone(),
                    );
                    AbortOnDropHandle::new(tokio::spawn(scout))
                });
            }
            if let Ok(Some((server, answer))) = tokio::time::timeout(INTERVAL, answers.recv()).await {
                latest.retain(|(_, (other, _))| *other != server);
                latest.push((Instant::now(), (server, answer)));
            }
            latest.retain(|(at, (server, _))| at.elapsed() < ANSWER_TTL && asked.contains(server));
            if latest.is_empty() && self.topology.borrow().is_none() && started.elapsed() > FIRST_ANSWERS {
                let all = self.finder.nodes_with(&self.remembered);
                self.nodes.send_if_modified(|nodes| {
                    let is_new = nodes.servers != all;
                    nodes.servers = all;
                    is_new
                });
            }
            if self.topology.borrow().is_some() || latest.len() * 2 > asked.len() || started.elapsed() > FIRST_ANSWERS {
                self.decide(latest.iter().map(|(_, answer)| answer), asked.len());
            }
        }
    }

    fn decide<'a>(&mut self, answers: impl Iterator<Item = &'a Answer>, asked: usize) {
        let current = self.topology.borrow().clone();
        let (deployment, others) = {
            let nodes = self.nodes.borrow();
            members::select(answers, &self.finder.seeds, &nodes.ids)
        };
        self.tell_of(&others);
        let answers = &deployment.answers;
        let Some(chosen) = topology::choose(answers, current.as_deref(), asked - others.len()) else {
            return;
        };
        if current.as_ref().is_none_or(|current| current.masters != chosen.masters) {
            let servers = |topology: &Topology| {
                let masters = topology.masters.iter();
                masters.map(|master| master.server.clone()).collect::<Vec<_>>()
            };
            if current
                .as_deref()
                .is_some_and(|current| servers(current) != servers(chosen))
            {
                let masters: Vec<String> = chosen
                    .masters
                    .iter()
                    .filter_map(|master| Some(master.server.as_ref()?.to_string()))
                    .collect();
                info!(
                    masters = masters.join(", "),
                    epoch = chosen.epoch,
                    "Redis has other masters now"
                );
            }
            self.topology.send_replace(Some(Arc::new(chosen.clone())));
        } else if current.is_some_and(|current| current.epoch != chosen.epoch) {
            self.topology
                .send_modify(|topology| *topology = Some(Arc::new(chosen.clone())));
        }
        // Nodes that answer do not name themselves. Nodes of an older epoch may name some that are gone.
        let mut known = chosen.nodes.clone();
        let latest = || answers.iter().filter(|(_, answer)| answer.epoch == chosen.epoch);
        known.extend(latest().map(|(server, _)| server.clone()));
        known.extend(latest().flat_map(|(_, answer)| answer.nodes.iter().cloned()));
        let members = Members {
            servers: self.finder.nodes_with(&known),
            ids: deployment.ids.into_iter().map(str::to_owned).collect(),
        };
        self.nodes.send_if_modified(|nodes| {
            let sorted = |nodes: &[Server]| {
                let mut nodes = nodes.to_vec();
                nodes.sort();
                nodes
            };
            let is_new = nodes.ids != members.ids || sorted(&nodes.servers) != sorted(&members.servers);
            if is_new {
                *nodes = members;
            }
            is_new
        });
    }

    /// Logs once which nodes are of other deployments.
    fn tell_of(&mut self, others: &[&Server]) {
        for &server in others {
            if !self.ignored.contains(server) {
                self.ignored.push(server.clone());
                warn!(%server, "{server} {OF_ANOTHER_DEPLOYMENT}");
            }
        }
    }
}

/// Asks one node, as long as it is among the known ones.
async fn scout(
    finder: Arc<Finder>,
    server: Server,
    answers: mpsc::Sender<(Server, Topology)>,
    mut wake: watch::Receiver<()>,
) {
    let Ok(client) = resident(&at(&finder.builder, &server)).build() else {
        return;
    };
    let _connection = AbortOnDropHandle::new(tokio::spawn(stay_connected(client.clone())));
    let _ = tokio::time::timeout(finder.timeout, client.wait_for_connect()).await;
    loop {
        match finder.ask(&client, &server).await {
            Ok(answer) => {
                if answers.send((server.clone(), answer)).await.is_err() {
                    return;
                }
            }
            Err(error) => debug!(%error, %server, "a node of Redis does not say which servers are masters"),
        }
        tokio::time::sleep(MIN_INTERVAL).await;
        tokio::select! {
            Ok(()) = wake.changed() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}
