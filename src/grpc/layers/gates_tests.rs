use std::net::{IpAddr, SocketAddr};

use super::*;

fn gates(total: usize, connection: usize) -> Arc<Gates> {
    let calls = GateLimits { total, connection };
    Arc::new(Gates::new(&CallLimits {
        calls,
        ..CallLimits::default()
    }))
}

fn connection(gates: &Arc<Gates>, address: &str) -> Arc<Consumer> {
    let address: IpAddr = address.parse().unwrap();
    Arc::new(Consumer::new(gates, &Peer::anonymous(SocketAddr::from((address, 1)))))
}

/// Takes permits until one is refused.
fn fill(consumer: &Arc<Consumer>) -> Vec<GatePermit> {
    std::iter::from_fn(|| consumer.acquire(GateKind::Calls, 1).ok()).collect()
}

#[test]
fn dropped_permits_are_free_again_and_a_refused_call_holds_none() {
    let gates = gates(24, 3);
    let (first, second) = (connection(&gates, "192.0.2.1"), connection(&gates, "192.0.2.1"));
    let held = fill(&first);
    assert_eq!(held.len(), 3, "the limit of the connection");
    assert_eq!(fill(&second).len(), 2, "the limit of the source");
    assert_eq!(gates.in_use(GateKind::Calls), 3);
    let error = first.acquire(GateKind::Calls, 1).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Overloaded);
    drop(held);
    assert_eq!(gates.in_use(GateKind::Calls), 0);
    assert_eq!(fill(&first).len(), 3);
    assert_eq!(fill(&second).len(), 3);
    drop((first, second));
    assert!(gates.sources.is_empty());
}

#[test]
fn it_takes_many_sources_to_use_up_a_gate() {
    let gates = gates(1000, usize::MAX);
    let flood: Vec<_> = (1..=20)
        .map(|n| fill(&connection(&gates, &format!("192.0.2.{n}"))))
        .collect();
    assert_eq!(flood[0].len(), 200, "one source alone gets a fifth");
    let other = connection(&gates, "198.51.100.1");
    assert!(other.acquire(GateKind::Calls, 1).is_ok(), "{gates:?}");
    let free = 1000 - gates.in_use(GateKind::Calls);
    assert!((10..20).contains(&free), "{free}");
    drop(flood);
    assert_eq!(fill(&other).len(), 200);
}

#[test]
fn a_site_holds_more_than_one_of_its_sources_and_less_than_all() {
    let gates = gates(900, usize::MAX);
    let held: Vec<_> = (0..20)
        .map(|n| fill(&connection(&gates, &format!("2001:db8:1:{n}::1"))))
        .collect();
    let of_each: Vec<_> = held.iter().map(Vec::len).collect();
    assert_eq!((of_each[0], of_each.iter().sum::<usize>()), (180, 300), "{of_each:?}");
    assert_eq!(fill(&connection(&gates, "2001:db8:2::1")).len(), 120, "another site");
}

#[test]
fn a_shared_source_is_limited_by_the_total_only() {
    let gates = gates(100, 1);
    let proxy = Arc::new(Consumer::new(&gates, &Peer::local()));
    let held = fill(&proxy);
    assert_eq!(held.len(), 100);
    assert!(connection(&gates, "192.0.2.1").acquire(GateKind::Calls, 1).is_err());
    drop(held);
    assert_eq!(gates.in_use(GateKind::Calls), 0);
}

#[test]
fn a_gate_that_stays_full_is_reported_until_it_is_not() {
    let gates = gates(100, 100);
    let proxy = Arc::new(Consumer::new(&gates, &Peer::local()));
    let held = fill(&proxy);
    let calls = FullGate {
        name: "calls",
        is_essential: false,
    };
    for second in 1..10 {
        gates.observe();
        let full: Vec<_> = gates.full().collect();
        assert_eq!(full.contains(&calls), second >= 5, "{second}");
    }
    drop(held);
    // The refusal that ended `fill` came before the first observation.
    gates.observe();
    assert_eq!(gates.full().count(), 0);

    // Callers that come and go: refused each second, although the gate is not full when it is looked at.
    for second in 1..=5 {
        drop(fill(&proxy));
        gates.observe();
        assert_eq!(gates.full().count(), usize::from(second == 5), "{second}");
    }
}

#[test]
fn a_permit_grows_only_within_the_limit() {
    let gates = gates(100, 10);
    let one = connection(&gates, "192.0.2.1");
    let mut held = one.acquire(GateKind::Calls, 4).unwrap();
    assert!(held.grow(7).is_err());
    assert!(held.grow(6).is_ok());
    assert_eq!(gates.in_use(GateKind::Calls), 10);
    drop(held);
    assert_eq!(gates.in_use(GateKind::Calls), 0);
}
