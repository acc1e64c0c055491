//! Which server is the master of which slots: read from the answers of Sentinels and of cluster nodes, some of which may be
//! out of date.

use std::collections::BTreeSet;

use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::types::Value;
use fred::types::config::Server;

use super::health::info_field;
use super::members::Answer;

/// The slots of a Redis Cluster; a deployment with one master has them all.
pub(super) const SLOTS: u16 = 16_384;

/// A master and the ranges of slots that it serves, bounds included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    /// None for the one server of the configuration.
    pub(super) server: Option<Server>,
    pub(super) slots: Vec<(u16, u16)>,
}

impl Master {
    /// A master of all slots.
    pub(super) fn of_all(server: Option<Server>) -> Self {
        let slots = vec![(0, SLOTS - 1)];
        Self { server, slots }
    }

    fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// What one Sentinel or cluster node says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topology {
    /// Grows with each failover and each slot that moves: a larger epoch is a later state.
    pub(super) epoch: u64,
    /// In the order of their addresses.
    pub(super) masters: Vec<Master>,
    /// Further nodes that can be asked.
    pub(super) nodes: Vec<Server>,
    /// The ids of the node and of those that it names.
    pub(super) ids: BTreeSet<String>,
    /// Whether its own id is among them.
    pub(super) is_identified: bool,
}

impl Topology {
    /// The one server of the configuration.
    pub(super) fn single() -> Self {
        Self {
            masters: vec![Master::of_all(None)],
            ..Self::default()
        }
    }

    /// The master of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Master> {
        self.masters.iter().find(|master| master.owns(slot))
    }
}

/// The answer to believe, among the latest answers of each node of one deployment: the one of the largest epoch. None if there is no answer.
///
/// Nodes that were frozen or cut off answer with an older epoch. If only such nodes answer, `current` is kept, unless they are the
/// majority of the `asked` nodes: then the deployment was set up anew. Among answers of one epoch, which differ for a moment while
/// a slot moves, the answer counts that most owners of slots confirm for themselves, then the most frequent one, then `current`.
pub(super) fn choose<'a>(answers: &[&'a Answer], current: Option<&Topology>, asked: usize) -> Option<&'a Topology> {
    let epoch = answers.iter().map(|(_, answer)| answer.epoch).max()?;
    if current.is_some_and(|current| epoch < current.epoch) && answers.len() * 2 <= asked {
        return None;
    }
    let latest = || answers.iter().filter(|(_, answer)| answer.epoch == epoch);
    let (_, first) = latest().next()?;
    if latest().all(|(_, answer)| answer.masters == first.masters) {
        return Some(first);
    }
    let votes = |answer: &Topology| latest().filter(|(_, other)| other.masters == answer.masters).count();
    let is_current = |answer: &Topology| current.is_some_and(|current| current.masters == answer.masters);
    let best = latest().max_by_key(|(_, answer)| (confirmed(answer, answers), votes(answer), is_current(answer)));
    best.map(|(_, answer)| answer)
}

/// The number of slots of this answer whose owner says the same.
fn confirmed(answer: &Topology, answers: &[&Answer]) -> u32 {
    let own = |master: &Master| {
        let (server, said) = answers
            .iter()
            .find(|(server, _)| Some(server) == master.server.as_ref())?;
        said.masters.iter().find(|own| own.server.as_ref() == Some(server))
    };
    let confirmed = |master: &Master| own(master).map_or(0, |own| common(&master.slots, &own.slots));
    answer.masters.iter().map(confirmed).sum()
}

/// The number of slots in both lists of ranges, each in the order of the slots.
fn common(mut a: &[(u16, u16)], mut b: &[(u16, u16)]) -> u32 {
    let mut number = 0;
    while let ([(first_a, last_a), rest_a @ ..], [(first_b, last_b), rest_b @ ..]) = (a, b) {
        let (first, last) = (first_a.max(first_b), last_a.min(last_b));
        if first <= last {
            number += u32::from(last - first) + 1;
        }
        if last_a < last_b {
            a = rest_a;
        } else {
            b = rest_b;
        }
    }
    number
}

/// Reads the replies of a Sentinel to `SENTINEL MASTER`, `GET-MASTER-ADDR-BY-NAME` and `SENTINELS`.
///
/// The epoch must be read before the address: during a failover the leader first has the new epoch with the old address in
/// `SENTINEL MASTER`, and read in this order an old address never comes with the new epoch. `own` is the reply to `SENTINEL MYID`.
pub(super) fn of_sentinel(state: Value, address: Value, sentinels: Value, own: &Value) -> Result<Topology, FredError> {
    let epoch = field(&state.into_array(), "config-epoch").and_then(|epoch| epoch.parse().ok());
    let mut address = address.into_array().into_iter();
    let master = server(address.next(), address.next())
        .ok_or_else(|| unreadable("a Sentinel does not watch a master of the name sentinelServiceName"))?;
    let sentinels: Vec<Vec<Value>> = sentinels.into_array().into_iter().map(Value::into_array).collect();
    let other = |fields: &Vec<Value>| {
        server(
            field(fields, "ip").map(Value::from),
            field(fields, "port").map(Value::from),
        )
    };
    let own = own.as_string().filter(|id| !id.is_empty());
    let others = sentinels.iter().filter_map(|fields| field(fields, "runid"));
    Ok(Topology {
        // A user of the Sentinel that may not ask for it follows the address alone.
        epoch: epoch.unwrap_or(0),
        masters: vec![Master::of_all(Some(master))],
        nodes: sentinels.iter().filter_map(other).collect(),
        is_identified: own.is_some(),
        ids: others.filter(|id| !id.is_empty()).chain(own).collect(),
    })
}

/// Reads the replies of a cluster node to `CLUSTER INFO` and `CLUSTER SLOTS`. An error if the node knows that the cluster does not
/// work, for instance because it is cut off. `asked` is the host of the node: a node without a name of its own has that.
pub(super) fn of_cluster(info: &str, slots: Value, asked: &str) -> Result<Topology, FredError> {
    if info_field(info, "cluster_state") != Some("ok") {
        return Err(unreadable("CLUSTERDOWN the state of the cluster is not ok"));
    }
    let epoch = info_field(info, "cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
    let (mut masters, mut replicas): (Vec<Master>, Vec<Server>) = (Vec::new(), Vec::new());
    let mut ids = BTreeSet::new();
    for range in slots.into_array() {
        let mut fields = range.into_array().into_iter();
        let mut bound = || u16::try_from(fields.next()?.as_i64()?).ok();
        let (Some(first), Some(last)) = (bound(), bound()) else {
            return Err(unreadable(
                "a node answered CLUSTER SLOTS with a range that cannot be read",
            ));
        };
        let mut nodes = fields.filter_map(|node| {
            let mut node = node.into_array().into_iter();
            let host = node.next().filter(|host| !host.is_null());
            let host = host.filter(|host| host.as_str().is_none_or(|host| !host.is_empty()));
            let port = node.next();
            ids.extend(node.next().and_then(|id| id.as_string()));
            server(Some(host.unwrap_or_else(|| asked.into())), port)
        });
        let Some(master) = nodes.next() else { continue };
        replicas.extend(nodes);
        match masters.iter_mut().find(|known| known.server.as_ref() == Some(&master)) {
            Some(known) => known.slots.push((first, last)),
            None => masters.push(Master {
                server: Some(master),
                slots: vec![(first, last)],
            }),
        }
    }
    if masters.is_empty() {
        return Err(unreadable("CLUSTERDOWN no slot has a master"));
    }
    masters.sort_by(|a, b| a.server.cmp(&b.server));
    for master in &mut masters {
        master.slots.sort_unstable();
    }
    let mut nodes: Vec<Server> = masters.iter().filter_map(|master| master.server.clone()).collect();
    nodes.extend(replicas);
    Ok(Topology {
        epoch: epoch.unwrap_or(0),
        masters,
        nodes,
        // A node names the slots of all, so also its own id or that of its master.
        is_identified: !ids.is_empty(),
        ids,
    })
}

/// The value of a field in a flat list of names and values.
fn field(list: &[Value], name: &str) -> Option<String> {
    let mut pairs = list.chunks_exact(2);
    let pair = pairs.find(|pair| pair[0].as_str().as_deref() == Some(name))?;
    pair[1].as_string()
}

fn server(host: Option<Value>, port: Option<Value>) -> Option<Server> {
    let (host, port) = (host?.as_string()?, port?.as_string()?.parse().ok()?);
    // A cluster that announces host names writes ? for a node that has none.
    (!host.is_empty() && host != "?").then(|| Server::new(host, port))
}

fn unreadable(problem: &'static str) -> FredError {
    FredError::new(FredKind::Unknown, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Server {
        Server::new("h", port)
    }

    fn sentinel_says(sentinel: u16, epoch: u64, master: u16) -> (Server, Topology) {
        let topology = Topology {
            epoch,
            masters: vec![Master::of_all(Some(at(master)))],
            ..Topology::default()
        };
        (at(sentinel), topology)
    }

    fn chosen(answers: &[(Server, Topology)], current: Option<&Topology>, asked: usize) -> Option<u16> {
        let answers: Vec<&Answer> = answers.iter().collect();
        let server = choose(&answers, current, asked)?.masters[0].server.clone();
        server.map(|server| server.port)
    }

    #[test]
    fn the_largest_epoch_counts_however_few_say_it() {
        let answers = [
            sentinel_says(1, 4, 70),
            sentinel_says(2, 5, 71),
            sentinel_says(3, 4, 70),
        ];
        assert_eq!(chosen(&answers, None, 3), Some(71));
        assert_eq!(chosen(&answers, Some(&answers[0].1), 3), Some(71));
        assert_eq!(chosen(&[], None, 3), None);
    }

    #[test]
    fn a_minority_that_is_behind_is_not_believed() {
        let (_, current) = sentinel_says(9, 5, 71);
        let stale = [sentinel_says(1, 4, 70)];
        assert_eq!(chosen(&stale, Some(&current), 3), None);
        // Set up anew, with epochs from 0 on.
        let anew = [sentinel_says(1, 0, 70), sentinel_says(2, 0, 70)];
        assert_eq!(chosen(&anew, Some(&current), 3), Some(70));
        assert_eq!(chosen(&stale, Some(&current), 1), Some(70));
    }

    #[test]
    fn of_one_epoch_the_majority_counts_and_then_the_present_state() {
        let split = [sentinel_says(1, 5, 70), sentinel_says(2, 5, 71)];
        assert_eq!(chosen(&split, Some(&split[0].1), 3), Some(70));
        assert_eq!(chosen(&split, Some(&split[1].1), 3), Some(71));
        let most = [
            sentinel_says(1, 5, 70),
            sentinel_says(2, 5, 71),
            sentinel_says(3, 5, 71),
        ];
        assert_eq!(chosen(&most, Some(&split[0].1), 3), Some(71));
    }

    fn map(of_first: u16, first: u16, second: u16) -> Topology {
        let master = |port, slots| Master {
            server: Some(at(port)),
            slots: vec![slots],
        };
        Topology {
            epoch: 7,
            masters: vec![master(first, (0, of_first)), master(second, (of_first + 1, SLOTS - 1))],
            ..Topology::default()
        }
    }

    #[test]
    fn a_moved_slot_is_where_its_new_owner_says_although_most_nodes_do_not_know() {
        let (old, new) = (map(100, 1, 2), map(99, 1, 2));
        let answers = [
            (at(1), new.clone()),
            (at(2), new.clone()),
            (at(3), old.clone()),
            (at(4), old.clone()),
            (at(5), old.clone()),
        ];
        let answers: Vec<&Answer> = answers.iter().collect();
        assert_eq!(choose(&answers, Some(&old), 5), Some(&new));
    }

    #[test]
    fn the_slots_of_two_lists_are_counted_once() {
        let all = [(0, SLOTS - 1)];
        for (a, b, number) in [
            (&all[..], &all[..], 16_384),
            (&all, &[(3, 3), (9, 12)], 5),
            (&[(0, 5), (8, 9)], &[(4, 8), (9, 20)], 4),
            (&[(0, 5)], &[(6, 7)], 0),
            (&all, &[], 0),
        ] {
            assert_eq!((common(a, b), common(b, a)), (number, number), "{a:?} {b:?}");
        }
    }

    #[test]
    fn the_replies_of_sentinels_are_read() {
        let text = |list: &[&str]| Value::Array(list.iter().map(|&text| text.into()).collect());
        let others = Value::Array(vec![text(&[
            "name", "x", "ip", "10.0.0.2", "port", "26379", "runid", "r2",
        ])]);
        let state = || text(&["name", "m", "config-epoch", "12"]);
        let read = of_sentinel(state(), text(&["10.0.0.1", "6379"]), others, &"r1".into()).unwrap();
        assert_eq!((read.epoch, read.nodes), (12, vec![Server::new("10.0.0.2", 26379)]));
        assert_eq!(read.masters, [Master::of_all(Some(Server::new("10.0.0.1", 6379)))]);
        assert_eq!(read.ids, BTreeSet::from(["r1".into(), "r2".into()]));
        let without = of_sentinel(state(), text(&["10.0.0.1", "6379"]), Value::Null, &Value::Null).unwrap();
        assert!(read.is_identified && !without.is_identified);
        assert!(of_sentinel(state(), Value::Null, Value::Null, &Value::Null).is_err());
    }

    #[test]
    fn the_replies_of_cluster_nodes_are_read() {
        let node = |host: Value, port: i64| Value::Array(vec![host, port.into(), "id".into()]);
        let range =
            |first: i64, last: i64, nodes: Vec<Value>| Value::Array([vec![first.into(), last.into()], nodes].concat());
        let slots = || {
            Value::Array(vec![
                range(9, 12, vec![node("b".into(), 7000), node("c".into(), 7001)]),
                range(0, 5, vec![node(Value::Null, 7002)]),
                range(6, 8, vec![node("b".into(), 7000), node("?".into(), 7003)]),
            ])
        };
        let info = "cluster_state:ok\r\ncluster_current_epoch:6\r\n";
        let read = of_cluster(info, slots(), "a").unwrap();
        let master = |host: &str, port, slots| Master {
            server: Some(Server::new(host, port)),
            slots,
        };
        assert_eq!(
            read.masters,
            [
                master("a", 7002, vec![(0, 5)]),
                master("b", 7000, vec![(6, 8), (9, 12)])
            ]
        );
        assert_eq!((read.epoch, read.nodes.len()), (6, 3));
        assert_eq!(read.ids, BTreeSet::from(["id".into()]));
        assert_eq!(
            read.owner(7).and_then(|master| master.server.clone()),
            Some(Server::new("b", 7000))
        );
        assert_eq!(read.owner(13), None);
        assert!(of_cluster("cluster_state:fail\r\n", slots(), "a").is_err());
        assert!(of_cluster(info, Value::Null, "a").is_err());
    }
}
