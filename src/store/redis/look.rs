//! Looks once for the masters, over temporary connections: to examine them, at the start and while Redis is lost.

use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::interfaces::ClientLike as _;
use fred::types::config::Server;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::discovery::{Finder, OF_ANOTHER_DEPLOYMENT};
use super::members::{self, Answer, Members};
use super::settings::at;
use super::topology::{self, Topology};

/// What the nodes have answered so far.
#[derive(Default)]
struct Looked {
    asked: Vec<Server>,
    answers: Vec<Answer>,
    problem: Option<FredError>,
}

impl Finder {
    /// Asks the nodes of the configuration, and if none answers the `known` ones; then those that they name, because a node that
    /// was cut off knows of no failover.
    pub(super) async fn look(&self, known: &Members) -> Result<Topology, FredError> {
        let mut looked = Looked::default();
        self.ask_nodes(&[], &mut looked).await;
        if looked.answers.is_empty() {
            self.ask_nodes(&known.servers, &mut looked).await;
        }
        let (deployment, _) = members::select(&looked.answers, &self.seeds, &known.ids);
        let named: Vec<Server> = deployment
            .answers
            .iter()
            .flat_map(|(_, answer)| answer.nodes.iter().cloned())
            .collect();
        self.ask_nodes(&named, &mut looked).await;
        let Looked {
            asked,
            answers,
            problem,
        } = looked;
        let (deployment, others) = members::select(&answers, &self.seeds, &known.ids);
        let chosen = topology::choose(&deployment.answers, None, asked.len());
        chosen.cloned().ok_or_else(|| match others.first() {
            // Says more than that the nodes of this one do not answer.
            Some(other) => FredError::new(FredKind::Unknown, format!("{other} {OF_ANOTHER_DEPLOYMENT}")),
            None => problem.unwrap_or_else(|| FredError::new(FredKind::Timeout, "no answer")),
        })
    }

    /// Asks those of the configured and of these nodes that were not asked before, until most of all have answered.
    async fn ask_nodes(&self, nodes: &[Server], looked: &mut Looked) {
        let mut all = self.nodes_with(nodes);
        all.retain(|server| !looked.asked.contains(server));
        let mut questions: FuturesUnordered<_> = all.iter().map(|server| self.ask_alone(server)).collect();
        looked.asked.extend(all.iter().cloned());
        let deadline = Instant::now() + self.timeout;
        while looked.answers.len() * 2 <= looked.asked.len() {
            match tokio::time::timeout_at(deadline, questions.next()).await {
                Ok(Some((server, Ok(answer)))) => looked.answers.push((server, answer)),
                // That the answer is bad says more than that another node is silent.
                Ok(Some((_, Err(error)))) => {
                    if looked.problem.is_none() || *error.kind() == FredKind::Unknown {
                        looked.problem = Some(error);
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
    }

    async fn ask_alone(&self, server: &Server) -> (Server, Result<Topology, FredError>) {
        let answer = async {
            let client = at(&self.builder, server).build()?;
            let _task = AbortOnDropHandle::new(client.init().await?);
            self.ask(&client, server).await
        };
        (server.clone(), answer.await)
    }
}
