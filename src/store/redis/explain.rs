//! What an operator can do about a Redis that cannot be used: the cause and the cure of an error at a start.

use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::config::Server;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use tokio_util::task::AbortOnDropHandle;

use super::health::{ExamineError, Examiner, cause, info_field};
use super::settings::at;

/// The cause and the cure of an error of connecting, in one line. Asks the nodes of a cluster why it cannot be used.
pub(super) async fn explain(examiner: &Examiner, failed: &ExamineError) -> String {
    if examiner.settings.is_clustered() {
        for host in examiner.finder.iter().flat_map(super::discovery::Finder::seeds) {
            if let Some(cause) = ask_node(&examiner.builder, host).await {
                return match &failed.server {
                    Some(_) => format!("{}; {cause}", failed.cause()),
                    None => cause,
                };
            }
        }
    }
    let name = failed.server.as_ref().map(ToString::to_string);
    let name = name.unwrap_or_else(|| examiner.settings.address());
    let cure = cure(failed.error.details()).unwrap_or("is Redis running there, and may this machine connect to it?");
    format!("{name}: {}; {cure}", cause(&failed.error))
}

/// What an operator can do about an error that Redis sent.
fn cure(details: &str) -> Option<&'static str> {
    let begins = |prefix: &str| details.starts_with(prefix);
    Some(if begins("NOAUTH") {
        "it wants a password: write redis://USER:PASSWORD@HOST:PORT in storage.redis_url"
    } else if begins("WRONGPASS") {
        "check the user and password of storage.redis_url (ACL LIST on the server)"
    } else if begins("ERR AUTH") {
        "the server has no password: remove it from storage.redis_url, or set one with requirepass"
    } else if begins("NOPERM") {
        "give the Redis user the rights that the runbook lists"
    } else if begins("ERR max number of clients") {
        "raise maxclients of the server, or lower storage.redis_pool"
    } else if begins("LOADING") {
        "it reads its data from disk; it answers in a while"
    } else if begins("DENIED") {
        "the server is in protected mode: set a password, or bind it to the network of Countersign"
    } else {
        return None;
    })
}

/// Why the cluster that this node belongs to cannot be used; none if the node does not answer or tells no cause.
async fn ask_node(builder: &Builder, host: &Server) -> Option<String> {
    let client = at(builder, host).build().ok()?;
    let _task = AbortOnDropHandle::new(client.init().await.ok()?);
    let info: String = client.info(None).await.ok()?;
    if info_field(&info, "redis_mode").is_some_and(|mode| mode != "cluster") {
        return Some(format!(
            "{host} is not a node of a cluster: write redis:// in place of redis-cluster:// in storage.redis_url"
        ));
    }
    let state: String = ask(&client, "INFO").await?;
    if !state.contains("cluster_state:ok") {
        return Some(format!(
            "the cluster of {host} does not serve every slot (cluster_state is not ok): see `redis-cli --cluster check {host}`"
        ));
    }
    let slots: Value = ask(&client, "SLOTS").await?;
    let announced = announced(slots);
    if announced.iter().any(|node| node.starts_with("?:")) {
        return Some(format!(
            "the cluster of {host} announces a node without a host name: set cluster-announce-hostname on every node, or \
             cluster-preferred-endpoint-type ip"
        ));
    }
    Some(format!(
        "the cluster of {host} announces its masters as {}: they must be reachable from here by these names and ports \
         (cluster-announce-ip, cluster-announce-hostname, cluster-announce-port)",
        announced.join(", ")
    ))
}

async fn ask<T: fred::types::FromValue>(client: &Client, what: &'static str) -> Option<T> {
    let command = CustomCommand::new_static("CLUSTER", ClusterHash::FirstKey, false);
    client.custom(command, vec![what]).await.ok()
}

/// The masters in a reply of CLUSTER SLOTS: `[[first, last, [host, port, …], …], …]`, each as `host:port`. A node without a
/// host is reached at the address of the node that was asked.
fn announced(slots: Value) -> Vec<String> {
    let mut masters = Vec::new();
    for range in slots.into_array() {
        let Some(node) = range.into_array().into_iter().nth(2) else {
            continue;
        };
        let mut fields = node.into_array().into_iter();
        let mut next = || fields.next().unwrap_or(Value::Null);
        let (host, port) = (next(), next());
        let host = host.as_string().filter(|host| !host.is_empty());
        let master = format!(
            "{}:{}",
            host.as_deref().unwrap_or("(same host)"),
            port.as_string().unwrap_or_default()
        );
        if !masters.contains(&master) {
            masters.push(master);
        }
    }
    masters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_of_a_cluster_are_listed_as_they_are_announced() {
        let node = |host: Value, port: i64| Value::Array(vec![host, port.into(), "id".into()]);
        let range = |node: Value| Value::Array(vec![0.into(), 5.into(), node]);
        let slots = Value::Array(vec![
            range(node("a.internal".into(), 7000)),
            range(node(Value::Null, 7001)),
            range(node("?".into(), 7002)),
            range(node("a.internal".into(), 7000)),
        ]);
        assert_eq!(announced(slots), ["a.internal:7000", "(same host):7001", "?:7002"]);
        assert!(announced(Value::Null).is_empty());
    }
}
