//! Which answers come from the deployment that is followed. Epochs of two deployments cannot be compared.
//!
//! A node of another deployment is asked where it has an address that a node of this one had before. Nodes are known by their ids: the
//! nodes of one deployment name ids in common, those of another one name none of them.

use std::collections::BTreeSet;

use fred::types::config::Server;

use super::topology::Topology;
use crate::store::RedisNodes;

/// A node, and its answer.
pub(super) type Answer = (Server, Topology);

/// The nodes of a deployment, from earlier answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// The addresses.
    pub(super) servers: Vec<Server>,
    /// Empty if they are not known.
    pub(super) ids: BTreeSet<String>,
}

/// Reads remembered nodes. An address that cannot be read is left out.
pub(super) fn remembered(nodes: &RedisNodes) -> Members {
    let server = |node: &String| {
        let (host, port) = node.rsplit_once(':')?;
        Some(Server::new(host, port.parse().ok()?))
    };
    Members {
        servers: nodes.addresses.iter().filter_map(server).collect(),
        ids: nodes.ids.iter().cloned().collect(),
    }
}

/// Answers of one deployment.
#[derive(Debug, Default)]
pub(super) struct Deployment<'a> {
    pub(super) answers: Vec<&'a Answer>,
    /// The ids that these answers name.
    pub(super) ids: BTreeSet<&'a str>,
    /// How many of the answers are those of configured nodes.
    seeds: usize,
}

impl<'a> Deployment<'a> {
    /// Takes those of `left` that belong to the same deployment as these ids, or as the first answer.
    fn gather(
        known: &BTreeSet<String>,
        first: Option<&'a Answer>,
        left: &mut Vec<&'a Answer>,
        seeds: &[Server],
    ) -> Self {
        let mut deployment = Self::default();
        if let Some(first) = first {
            deployment.add(first, seeds);
        }
        while let Some(index) = left.iter().position(|answer| deployment.belongs(answer, known, seeds)) {
            deployment.add(left.remove(index), seeds);
        }
        deployment
    }

    fn add(&mut self, answer: &'a Answer, seeds: &[Server]) {
        self.seeds += usize::from(seeds.contains(&answer.0));
        self.ids.extend(answer.1.ids.iter().map(String::as_str));
        self.answers.push(answer);
    }

    fn belongs(&self, (server, answer): &Answer, known: &BTreeSet<String>, seeds: &[Server]) -> bool {
        let named = || self.answers.iter().any(|(_, other)| other.nodes.contains(server));
        let is_known = |id: &String| self.ids.contains(id.as_str()) || known.contains(id);
        answer.ids.iter().any(is_known)
            // Its user may not ask for the id: then the configured address counts, or that in the answer of a member.
            || !answer.is_identified && (seeds.contains(server) || named())
    }

    /// Whether most of the configured nodes belong to it.
    fn is_configured(&self, seeds: &[Server]) -> bool {
        self.seeds * 2 > seeds.len()
    }
}

/// The answers of the deployment to follow, and the nodes of other deployments.
///
/// That is the one with the `known` ids, as long as one of its nodes answers, unless most of the configured nodes (`seeds`) belong to
/// another one: then it was set up anew. If none of its nodes answers, it is the one of most configured nodes. Without a configured
/// node a deployment counts only if no ids are known.
pub(super) fn select<'a>(
    answers: impl IntoIterator<Item = &'a Answer>,
    seeds: &[Server],
    known: &BTreeSet<String>,
) -> (Deployment<'a>, Vec<&'a Server>) {
    // Configured nodes first.
    let (mut left, others): (Vec<&Answer>, Vec<&Answer>) =
        answers.into_iter().partition(|(server, _)| seeds.contains(server));
    left.extend(others);
    let mut deployments = Vec::new();
    if !known.is_empty() {
        deployments.push(Deployment::gather(known, None, &mut left, seeds));
    }
    while !left.is_empty() {
        let first = left.remove(0);
        deployments.push(Deployment::gather(&BTreeSet::new(), Some(first), &mut left, seeds));
    }
    let is_candidate = |deployment: &Deployment<'_>| known.is_empty() || deployment.seeds > 0;
    let is_present = !known.is_empty() && deployments.first().is_some_and(|first| !first.answers.is_empty());
    let chosen = if is_present && !deployments.iter().skip(1).any(|other| other.is_configured(seeds)) {
        Some(0)
    } else {
        // Of several, the first.
        let rank = |index: &usize| {
            let deployment = &deployments[*index];
            (deployment.seeds, deployment.answers.len())
        };
        let candidates = (0..deployments.len()).filter(|index| is_candidate(&deployments[*index]));
        candidates.rev().max_by_key(rank)
    };
    let chosen = chosen.map_or_else(Deployment::default, |index| deployments.remove(index));
    let others = deployments.into_iter().flat_map(|other| other.answers);
    (chosen, others.map(|(server, _)| server).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Server {
        Server::new("h", port)
    }

    /// The answer of node `port` with the ids of these nodes.
    fn answer(port: u16, ids: &[u16]) -> Answer {
        let topology = Topology {
            ids: ids.iter().map(ToString::to_string).collect(),
            is_identified: true,
            ..Topology::default()
        };
        (at(port), topology)
    }

    fn unidentified(port: u16, nodes: &[u16]) -> Answer {
        let topology = Topology {
            nodes: nodes.iter().map(|port| at(*port)).collect(),
            ..Topology::default()
        };
        (at(port), topology)
    }

    /// The ports of the chosen answers, in order.
    fn selected(answers: &[Answer], seeds: &[u16], known: &[u16]) -> Vec<u16> {
        let seeds: Vec<Server> = seeds.iter().map(|port| at(*port)).collect();
        let known = known.iter().map(ToString::to_string).collect();
        let (deployment, others) = select(answers, &seeds, &known);
        assert_eq!(deployment.answers.len() + others.len(), answers.len());
        let mut ports: Vec<u16> = deployment.answers.iter().map(|(server, _)| server.port).collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn a_node_that_no_configured_one_names_does_not_count() {
        let ours = [answer(1, &[1, 2, 3]), answer(2, &[1, 2, 3]), answer(3, &[1, 2, 3])];
        let stray = answer(9, &[7, 8]);
        for known in [&[][..], &[1, 2, 3]] {
            let all = [std::slice::from_ref(&stray), &ours[..]].concat();
            assert_eq!(selected(&all, &[1], known), [1, 2, 3]);
            // As long as no configured node answers, those that it has named count.
            assert_eq!(selected(&all[..3], &[5], known), [1, 2]);
        }
        assert_eq!(selected(&[stray], &[1], &[1, 2, 3]), [0; 0]);
    }

    #[test]
    fn a_configured_node_of_another_deployment_does_not_count_either() {
        let ours = [answer(2, &[1, 2]), answer(3, &[2, 3])];
        let stray = answer(1, &[7, 8]);
        let all = [std::slice::from_ref(&stray), &ours[..]].concat();
        assert_eq!(selected(&all, &[1, 2, 3], &[]), [2, 3]);
        assert_eq!(selected(&all, &[1, 2], &[1, 2, 3]), [2, 3]);
        assert_eq!(selected(&all, &[1, 5], &[1, 2, 3]), [2, 3]);
    }

    #[test]
    fn a_deployment_that_was_set_up_anew_is_followed() {
        let anew = [answer(1, &[7, 8]), answer(2, &[7, 8])];
        assert_eq!(selected(&anew, &[1, 2, 3], &[1, 2, 3]), [1, 2]);
        assert_eq!(selected(&anew[..1], &[1, 2, 3], &[1, 2, 3]), [1]);
        let old = answer(5, &[1, 5]);
        assert_eq!(selected(&[old.clone(), anew[0].clone()], &[1, 2, 3], &[1]), [5]);
        assert_eq!(selected(&[&[old], &anew[..]].concat(), &[1, 2, 3], &[1]), [1, 2]);
    }

    #[test]
    fn nodes_whose_ids_may_not_be_asked_for_count_by_their_addresses() {
        let all = [
            unidentified(1, &[3]),
            unidentified(2, &[]),
            unidentified(3, &[]),
            unidentified(9, &[]),
        ];
        assert_eq!(selected(&all, &[1, 2], &[]), [1, 2, 3]);
        assert_eq!(selected(&[answer(4, &[4, 5]), all[1].clone()], &[4, 2], &[4]), [2, 4]);
    }
}
