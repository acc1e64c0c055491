use std::time::Duration;

use super::*;
use crate::listener::IdleGivesWay::{WhenAllAreInUse, WhenSourceHasItsShare};

fn limits(max_connections: usize, max_per_source: usize, idle_gives_way: IdleGivesWay) -> Limits {
    Limits {
        max_per_source,
        idle_gives_way,
        ..Limits::new(max_connections, Duration::from_secs(1))
    }
}

fn source(text: &str) -> Source {
    Source::parse(text).unwrap()
}

/// A connection with a task that does nothing, and ends with the connection.
async fn open(connections: &Arc<OpenConnections>, from: &str) -> Result<tokio::task::JoinHandle<()>, SourceIsFull> {
    let connection = connections.admit(Some(source(from))).await?;
    let number = connection.number();
    let task = tokio::spawn(async move {
        let _connection = connection;
        std::future::pending::<()>().await;
    });
    OpenConnection::runs_in(connections, number, task.abort_handle());
    Ok(task)
}

#[tokio::test]
async fn a_source_gets_its_share_and_others_get_in() {
    let connections = OpenConnections::new(limits(40, 5, WhenAllAreInUse));
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(connections.admit(Some(source("192.0.2.1"))).await.unwrap());
    }
    let refused = connections.admit(Some(source("192.0.2.1"))).await;
    assert_eq!(refused.err(), Some(SourceIsFull));
    assert!(connections.admit(Some(source("192.0.2.2"))).await.is_ok());
    assert!(connections.admit(None).await.is_ok(), "a proxy has no limit of its own");
    held.pop();
    assert!(connections.admit(Some(source("192.0.2.1"))).await.is_ok());
}

#[tokio::test]
async fn a_site_gets_more_than_one_source() {
    let connections = OpenConnections::new(limits(1000, 5, WhenAllAreInUse));
    let mut held = Vec::new();
    for network in 0..10 {
        let from = format!("2001:db8:1:{network}::1");
        while let Ok(connection) = connections.admit(Some(source(&from))).await {
            held.push(connection);
        }
    }
    assert_eq!(held.len(), 20);
    assert!(
        connections.admit(Some(source("2001:db8:2::1"))).await.is_ok(),
        "another site"
    );
}

#[tokio::test]
async fn the_last_connections_stay_for_sources_that_have_few() {
    let connections = OpenConnections::new(limits(40, 20, WhenAllAreInUse));
    let mut held = Vec::new();
    for n in 1..10 {
        while let Ok(connection) = connections.admit(Some(source(&format!("192.0.2.{n}")))).await {
            held.push(connection);
        }
    }
    assert!((25..40).contains(&held.len()), "{}", held.len());
    assert!(connections.admit(Some(source("198.51.100.1"))).await.is_ok());
}

#[tokio::test]
async fn the_oldest_idle_connection_of_the_source_gives_way() {
    let connections = OpenConnections::new(limits(10, 3, WhenSourceHasItsShare));
    let busy = connections.admit(Some(source("192.0.2.1"))).await.unwrap();
    let _request = busy.activity.begin();
    OpenConnection::runs_in(&connections, busy.number(), tokio::spawn(async {}).abort_handle());
    let (older, newer) = (
        open(&connections, "192.0.2.1").await.unwrap(),
        open(&connections, "192.0.2.1").await.unwrap(),
    );
    let other = open(&connections, "192.0.2.2").await.unwrap();
    let newest = open(&connections, "192.0.2.1").await.unwrap();
    assert!(older.await.unwrap_err().is_cancelled());
    assert!(!newer.is_finished() && !other.is_finished() && !newest.is_finished());
}

#[tokio::test]
async fn when_all_connections_are_in_use_the_source_with_most_gives_way() {
    let connections = OpenConnections::new(limits(6, 5, WhenSourceHasItsShare));
    let other = open(&connections, "192.0.2.2").await.unwrap();
    let mut flood = Vec::new();
    for _ in 0..5 {
        flood.push(open(&connections, "192.0.2.1").await.unwrap());
    }
    let third = open(&connections, "192.0.2.3").await.unwrap();
    assert!(flood.remove(0).await.unwrap_err().is_cancelled(), "the oldest one");
    assert!(!other.is_finished() && !third.is_finished());
    assert!(flood.iter().all(|task| !task.is_finished()));
}

#[tokio::test]
async fn without_an_idle_connection_the_next_one_waits() {
    let connections = OpenConnections::new(limits(1, 1, WhenSourceHasItsShare));
    let first = connections.admit(Some(source("192.0.2.1"))).await.unwrap();
    let _request = first.activity.begin();
    let mut second = Box::pin(connections.admit(Some(source("192.0.2.2"))));
    let early = tokio::time::timeout(Duration::from_millis(50), &mut second).await;
    assert!(early.is_err());
    drop(first);
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn a_connection_that_had_a_request_gives_way_after_those_that_had_none() {
    let connections = OpenConnections::new(limits(4, 4, WhenAllAreInUse));
    let mut used = Vec::new();
    for _ in 0..3 {
        let connection = connections.admit(Some(source("192.0.2.1"))).await.unwrap();
        drop(connection.activity.begin());
        let number = connection.number();
        let task = tokio::spawn(async move {
            let _connection = connection;
            std::future::pending::<()>().await;
        });
        OpenConnection::runs_in(&connections, number, task.abort_handle());
        used.push(task);
    }
    let silent = open(&connections, "192.0.2.2").await.unwrap();
    let next = open(&connections, "192.0.2.3").await.unwrap();
    assert!(silent.await.unwrap_err().is_cancelled());
    assert!(used.iter().all(|task| !task.is_finished()) && !next.is_finished());
}
