//! The compose file: its stores with its commands and passwords, its replicas with its environment, Envoy with its
//! configuration.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::commands::root;
use super::container::{Container, Replica};
use super::runbook::Duty;
use super::shell::{Shell, tool};
use super::{PASSWORD, runnable, succeed, word};
use crate::support::guard::{self, Ending};
use crate::support::process::find;
use crate::support::{Postgres, Process, get, poll, ports};

const TIMEOUT: Duration = Duration::from_mins(1);

/// The command of a service in the compose file: `command: [a, b]`, or one word a line.
fn command_of(text: &str, service: &str) -> Vec<String> {
    let (_, section) = text
        .split_once(&format!("\n  {service}:\n"))
        .expect("the service is there");
    let (_, after) = section.split_once("    command:").expect("it has a command");
    let plain = |word: &str| word.trim().trim_matches('"').to_owned();
    match after.split_once('\n').expect("a line") {
        (line, _) if line.contains('[') => line.trim().trim_matches(['[', ']']).split(',').map(plain).collect(),
        (_, rest) => {
            let lines = rest.lines().map(str::trim);
            let lines = lines.take_while(|line| line.starts_with(['-', '#']));
            lines.filter_map(|line| line.strip_prefix("- ")).map(plain).collect()
        }
    }
}

/// The environment of the service `countersign`.
fn environment_of(text: &str) -> Vec<(String, String)> {
    let (_, section) = text.split_once("\n  countersign:\n").expect("the service is there");
    let (_, after) = section
        .split_once("\n    environment:\n")
        .expect("it has an environment");
    let lines = after.lines().take_while(|line| line.starts_with("      "));
    lines
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| !name.starts_with('#'))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The stores of the compose file. Dropping them stops them.
pub(crate) struct Stores {
    _postgres: Postgres,
    _redis: Process,
    /// The URL of a superuser, to the database `postgres`.
    pub(crate) admin: String,
}

impl Stores {
    /// Starts them with the passwords in this folder, and writes their addresses into the URLs there.
    pub(crate) async fn start(secrets: &Path) -> Self {
        let text = std::fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
        let settings = command_of(&text, "postgres");
        let settings: Vec<(&str, &str)> = settings.iter().filter_map(|word| word.split_once('=')).collect();
        assert!(settings.len() > 2, "{settings:?}");
        let postgres = Postgres::start(&settings);
        let database = postgres.database().await;
        let password = std::fs::read_to_string(secrets.join("database_password")).unwrap();
        let role = format!("CREATE ROLE countersign SUPERUSER LOGIN PASSWORD '{}'", password.trim());
        database.execute(&role).await;
        database.execute("CREATE DATABASE countersign OWNER countersign").await;
        let hba = postgres.folder().join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&hba).unwrap();
        std::fs::write(
            &hba,
            format!("host all countersign 127.0.0.1/32 scram-sha-256\n{rules}"),
        )
        .unwrap();
        database.execute("SELECT pg_reload_conf()").await;

        let (redis, redis_address) = redis(&command_of(&text, "redis"), secrets);
        for (name, from, to) in [
            ("database_url", "@postgres", postgres.address()),
            ("redis_url", "@redis", redis_address),
        ] {
            let file = secrets.join(name);
            let url = std::fs::read_to_string(&file).unwrap();
            assert!(url.contains(from), "{name}");
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, url.replace(from, &format!("@{to}"))).unwrap();
        }
        let admin = format!("postgres://postgres@{}/postgres", postgres.address());
        Self {
            _postgres: postgres,
            _redis: redis,
            admin,
        }
    }
}

/// Redis as the compose file starts it, but on a free port.
fn redis(words: &[String], secrets: &Path) -> (Process, SocketAddr) {
    assert_eq!(words[0], "redis-server");
    for _ in 0..5 {
        let (folder, port) = (guard::scratch("redis"), ports::free());
        let mut command = Command::new(find("redis-server").expect("tests/run installs Redis"));
        command
            .current_dir(&folder)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        let inside = "/run/secrets";
        command.args(
            words[1..]
                .iter()
                .map(|word| word.replace(inside, secrets.to_str().unwrap())),
        );
        let mut process = Process::spawn(&mut command, &folder.join("log"), Ending::Kill);
        let ready = poll(TIMEOUT, || {
            let accepts = process.log().contains("Ready to accept connections");
            process.exited().map(|_| false).or(accepts.then_some(true))
        });
        if ready == Some(true) {
            return (process, ([127, 0, 0, 1], port).into());
        }
        assert!(process.log().contains("in use"), "{}", process.log());
    }
    panic!("redis-server found no port");
}

/// A container of the service `countersign`.
pub(crate) fn container(folder: &Path) -> Container {
    let text = std::fs::read_to_string(root().join("deploy/compose.yaml")).unwrap();
    let secrets = folder.join("deploy/secrets");
    // The production file names secrets as well.
    let file = folder.join("countersign.toml");
    let options = std::fs::read_to_string(folder.join("deploy/countersign.toml")).unwrap();
    let options = options.replace("/run/secrets", secrets.to_str().unwrap());
    std::fs::write(&file, options).unwrap();
    Container {
        environment: environment_of(&text),
        paths: vec![("/etc/countersign/countersign.toml", file), ("/run/secrets", secrets)],
    }
}

/// Envoy with `envoy.compose.yaml`, before these replicas and this application. Returns the ports for gRPC and for the
/// application.
fn envoy(folder: &Path, replicas: &[Replica], application: SocketAddr) -> (Process, [SocketAddr; 2]) {
    let text = std::fs::read_to_string(root().join("deploy/envoy.compose.yaml")).unwrap();
    let place = |address: SocketAddr| format!("address: {}, port_value: {}", address.ip(), address.port());
    let endpoint = "- endpoint: { address: { socket_address: { address: countersign, port_value: 50051 } } }";
    assert_eq!(text.matches(endpoint).count(), 2);
    // The name of the service resolves to all replicas.
    let endpoints: Vec<String> = replicas
        .iter()
        .map(|replica| {
            format!(
                "- endpoint: {{ address: {{ socket_address: {{ {} }} }} }}",
                place(replica.grpc)
            )
        })
        .collect();
    let text = text
        .replace(endpoint, &endpoints.join("\n              "))
        .replace("address: app, port_value: 8000", &place(application))
        .replace("/run/secrets", folder.join("deploy/secrets").to_str().unwrap());
    for _ in 0..5 {
        let own = guard::scratch("envoy");
        let addresses = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], ports::free())));
        let text = text
            .replace("address: 0.0.0.0, port_value: 50051", &place(addresses[0]))
            .replace("address: 0.0.0.0, port_value: 8080", &place(addresses[1]));
        let file = own.join("envoy.yaml");
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(tool("envoy"));
        command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
        let mut process = Process::spawn(command.arg("--config-path").arg(file), &own.join("log"), Ending::Kill);
        let listens = poll(TIMEOUT, || match process.exited() {
            Some(_) => Some(false),
            None => addresses
                .iter()
                .all(|address| std::net::TcpStream::connect(address).is_ok())
                .then_some(true),
        });
        if listens == Some(true) && process.exited().is_none() {
            return (process, addresses);
        }
        assert!(process.log().to_lowercase().contains("in use"), "{}", process.log());
    }
    panic!("Envoy found no port");
}

/// The application of the compose file answers with the headers that reach it.
async fn application() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let echo = Router::new().fallback(|request: Request| async move { format!("{:?}", request.headers()) });
    tokio::spawn(async move { axum::serve(listener, echo).await.unwrap() });
    address
}

/// A command in a container, and its configuration.
const RUN: &str = "docker compose --file deploy/compose.yaml run --rm countersign";
const CONFIG: &str = "/etc/countersign/countersign.toml";

/// The `tokens` of a call through Envoy, with this token of the caller.
fn issue(shell: &mut Shell, grpc: SocketAddr, caller: &str, request: &Value) -> Value {
    let text = format!(
        "grpcurl -cacert deploy/secrets/tls_cert -protoset deploy/countersign.protoset {caller} -d '{request}' \
         localhost:{} countersign.v1.TokenService/Issue",
        grpc.port()
    );
    let ended = shell.run(&text, "");
    let answer: Value = serde_json::from_str(&ended.output).unwrap_or_else(|_| panic!("{text}: {ended:?}"));
    answer["tokens"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compose_file_and_the_runbook_work_as_they_stand() {
    let mut shell = Shell::start();
    let folder = shell.folder().to_owned();
    let application = application().await;
    let mut started = None;
    for command in runnable("deploy/compose.yaml") {
        if !command.text.contains(" up ") {
            succeed(&mut shell, &command, &[]);
            continue;
        }
        let stores = Stores::start(&folder.join("deploy/secrets")).await;
        let container = container(&folder);
        let replicas = replicas(&container);
        container.install(&shell.container(), replicas.first());
        let front = envoy(&folder, &replicas, application);
        // Envoy's client does not exist yet.
        let [_, edge] = front.1;
        assert_eq!(get(&format!("http://{edge}/"), &[]).await.status, 503);
        started = Some((stores, container, replicas, front));
    }
    let (stores, container, mut replicas, (envoy, [grpc, edge])) = started.expect("the page starts the services");

    // The first service, made as the production file says, logs a user in by way of Envoy.
    let mut secret = None;
    let run = format!("{RUN} c");
    for command in runnable("deploy/countersign.toml") {
        // The comments of the compose file may have made it.
        if let Some(name) = command
            .text
            .split("client add ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
        {
            shell.run(&format!("{RUN} client delete {name} --config {CONFIG}"), "");
        }
        let replaced = [("countersign c", run.as_str()), ("FILE", CONFIG)];
        let ended = succeed(&mut shell, &command, &replaced);
        secret = secret.or_else(|| Some(word(&ended.output, "css_")?.to_owned()));
    }
    let own = json!({"client_id": "web-backend", "client_secret": {"secret": secret.expect("a secret is printed")},
        "scope": ["countersign:issue"]});
    let own = issue(&mut shell, grpc, "", &own);
    let bearer = format!(
        "-H 'authorization: Bearer {}'",
        own["accessToken"].as_str().expect("a token")
    );
    let login = json!({"password": {"username": "alice", "password": PASSWORD}});
    let tokens = issue(&mut shell, grpc, &bearer, &login);
    let bearer = format!("Bearer {}", tokens["accessToken"].as_str().expect("a token"));
    let page = get(&format!("http://{edge}/"), &[("authorization", &bearer)]).await;
    assert!(
        page.status == 200 && page.body.contains("x-auth-subject"),
        "{page:?}\n{}",
        envoy.log()
    );
    assert_eq!(get(&format!("http://{edge}/"), &[]).await.status, 401);

    let url = std::fs::read_to_string(folder.join("deploy/secrets/database_url")).unwrap();
    let script = shell.container();
    let mut roll_out = || {
        stop(std::mem::take(&mut replicas));
        replicas = self::replicas(&container);
        container.install(&script, replicas.first());
    };
    Duty {
        shell: &mut shell,
        alias: "docker compose",
        replaced: Vec::new(),
        database: Some(url.trim()),
        whole: true,
        roll_out: Some(&mut roll_out),
    }
    .walk();
    let key = std::fs::read_to_string(folder.join("deploy/secrets/master_key")).unwrap();
    assert!(!key.contains(','), "the old master key is gone");
    drop(stores);
}

fn replicas(container: &Container) -> Vec<Replica> {
    (0..2)
        .map(|_| container.serve(&["serve", "--config", CONFIG]))
        .collect()
}

fn stop(replicas: Vec<Replica>) {
    for mut replica in replicas {
        replica.process.signal(Signal::SIGTERM);
        assert!(replica.process.wait(TIMEOUT).success(), "{}", replica.process.log());
    }
}
