//! Which server is the master of which slots: read from the answers of Sentinels and of cluster nodes, some of which may be
//! out of date.

use fred::error::{Error as FredError, ErrorKind as FredKind};
use fred::types::Value;
use fred::types::config::Server;

use super::health::info_field;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Topology {
    /// Grows with each failover and each slot that moves: a larger epoch is a later state.
    pub(super) epoch: u64,
    /// In the order of their addresses.
    pub(super) masters: Vec<Master>,
    /// Further nodes that can be asked.
    pub(super) nodes: Vec<Server>,
}

impl Topology {
    /// The one server of the configuration.
    pub(super) fn single() -> Self {
        Self {
            epoch: 0,
            masters: vec![Master::of_all(None)],
            nodes: Vec::new(),
        }
    }

    /// The master of a slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Master> {
        self.masters.iter().find(|master| master.owns(slot))
    }
}

/// The answer to believe, among the latest answers of each node: the one of the largest epoch. None if there is no answer.
///
/// Nodes that were frozen or cut off answer with an older epoch. If only such nodes answer, `current` is kept, unless they are the
/// majority of the `asked` nodes: then the deployment was set up anew. Among answers of one epoch, which differ for a moment while
/// a slot moves, the answer counts that most owners of slots confirm for themselves, then the most frequent one, then `current`.
pub(super) fn choose<'a>(
    answers: &'a [(Server, Topology)],
    current: Option<&Topology>,
    asked: usize,
) -> Option<&'a Topology> {
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
fn confirmed(answer: &Topology, answers: &[(Server, Topology)]) -> usize {
    let own = |master: &Master| {
        let (server, said) = answers
            .iter()
            .find(|(server, _)| Some(server) == master.server.as_ref())?;
        said.masters.iter().find(|own| own.server.as_ref() == Some(server))
    };
    let confirmed = |master: &Master| {
        let Some(own) = own(master) else { return 0 };
        (0..SLOTS).filter(|slot| master.owns(*slot) && own.owns(*slot)).count()
    };
    answer.masters.iter().map(confirmed).sum()
}

/// Reads the replies of a Sentinel to `SENTINEL MASTER`, `GET-MASTER-ADDR-BY-NAME` and `SENTINELS`.
///
/// The epoch must be read before the address: during a failover the leader first has the new epoch with the old address in
/// `SENTINEL MASTER`, and read in this order an old address never comes with the new epoch.
pub(super) fn of_sentinel(state: Value, address: Value, sentinels: Value) -> Result<Topology, FredError> {
    let epoch = field(&state.into_array(), "config-epoch").and_then(|epoch| epoch.parse().ok());
    let mut address = address.into_array().into_iter();
    let master = server(address.next(), address.next())
        .ok_or_else(|| unreadable("a Sentinel does not watch a master of the name sentinelServiceName"))?;
    let other = |fields: Value| {
        let fields = fields.into_array();
        server(
            field(&fields, "ip").map(Value::from),
            field(&fields, "port").map(Value::from),
        )
    };
    Ok(Topology {
        // A user of the Sentinel that may not ask for it follows the address alone.
        epoch: epoch.unwrap_or(0),
        masters: vec![Master::of_all(Some(master))],
        nodes: sentinels.into_array().into_iter().filter_map(other).collect(),
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
            server(Some(host.unwrap_or_else(|| asked.into())), node.next())
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
            nodes: Vec::new(),
        };
        (at(sentinel), topology)
    }

    fn chosen(answers: &[(Server, Topology)], current: Option<&Topology>, asked: usize) -> Option<u16> {
        let server = choose(answers, current, asked)?.masters[0].server.clone();
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
            nodes: Vec::new(),
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
        assert_eq!(choose(&answers, Some(&old), 5), Some(&new));
    }

    #[test]
    fn the_replies_of_sentinels_are_read() {
        let text = |list: &[&str]| Value::Array(list.iter().map(|&text| text.into()).collect());
        let others = Value::Array(vec![text(&["name", "x", "ip", "10.0.0.2", "port", "26379"])]);
        let state = || text(&["name", "m", "config-epoch", "12"]);
        let read = of_sentinel(state(), text(&["10.0.0.1", "6379"]), others).unwrap();
        assert_eq!((read.epoch, read.nodes), (12, vec![Server::new("10.0.0.2", 26379)]));
        assert_eq!(read.masters, [Master::of_all(Some(Server::new("10.0.0.1", 6379)))]);
        assert!(of_sentinel(state(), Value::Null, Value::Null).is_err());
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
        assert_eq!(
            read.owner(7).and_then(|master| master.server.clone()),
            Some(Server::new("b", 7000))
        );
        assert_eq!(read.owner(13), None);
        assert!(of_cluster("cluster_state:fail\r\n", slots(), "a").is_err());
        assert!(of_cluster(info, Value::Null, "a").is_err());
    }
}
