//! The README from top to bottom, on one embedded service.

use std::collections::BTreeMap;
use std::time::Duration;

use super::commands::Command;
use super::container::{address, read};
use super::shape::agrees;
use super::shell::Shell;
use super::{PASSWORD, assert_audited, replace, runnable, succeed, word};
use crate::support::poll;

const TIMEOUT: Duration = Duration::from_secs(30);

const ADD: &str = "countersign client add ";

fn pairs(replaced: &[(String, String)]) -> Vec<(&str, &str)> {
    replaced.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect()
}

/// Starts the agent, and waits until it answers as the page says: with another authority than the path of its socket.
fn start_agent(shell: &mut Shell, text: &str, socket: &str) {
    let output = shell.start_server(text);
    let asked = format!(
        "grpcurl -plaintext -unix -authority localhost -protoset deploy/countersign.protoset \
         -d '{{\"access_token\": \"x\"}}' {socket} countersign.v1.TokenService/Validate"
    );
    let answered = poll(TIMEOUT, || {
        let ended = shell.run(&asked, "");
        ended.output.contains("INACTIVE_REASON_MALFORMED").then_some(())
    });
    let log = std::fs::read_to_string(output).unwrap_or_default();
    assert!(answered.is_some(), "{log}");
}

#[test]
fn every_command_of_the_readme_works_and_prints_what_it_shows() {
    let mut shell = Shell::start();
    let socket = shell.own("agent.sock").display().to_string();
    let secret = shell.own("agent").display().to_string();
    let mut replaced = vec![
        ("target/release/countersign".to_owned(), "countersign".to_owned()),
        // The walk has one user for all logins.
        (
            "\"username\": \"ada\", \"password\": \"…\"".to_owned(),
            format!("\"username\": \"demo\", \"password\": \"{PASSWORD}\""),
        ),
        ("/run/secrets/agent".to_owned(), secret.clone()),
        ("/run/countersign/agent.sock".to_owned(), socket.clone()),
    ];
    // The page makes some clients below the calls that use them.
    let (made, others): (Vec<Command>, Vec<Command>) =
        runnable("README.md").partition(|command| command.text.starts_with(ADD));
    let (mut count, mut secrets) = (0, BTreeMap::new());
    for command in others {
        count += 1;
        let pairs = pairs(&replaced);
        let text = replace(&command.text, &pairs);
        for (client, secret) in &secrets {
            if text.contains(&format!("\"client_id\": \"{client}\"")) {
                shell.run(&format!("SECRET={secret}"), "");
            }
        }
        match text.as_str() {
            "cargo run --release -- serve --dev" => {
                let output = shell.start_server(&text);
                let ready = shell.own("ready.json");
                let told = poll(TIMEOUT, || read(&ready));
                let told = told.unwrap_or_else(|| panic!("{}", std::fs::read_to_string(output).unwrap_or_default()));
                let grpc = address(&told, "grpc").to_string();
                for command in &made {
                    let ended = succeed(&mut shell, command, &[]);
                    let name = command.text[ADD.len()..].split_whitespace().next().unwrap().to_owned();
                    // A reader stores the secret that the command prints.
                    let printed = word(&ended.output, "css_").expect("a secret is printed").to_owned();
                    if name == "agent" {
                        std::fs::write(&secret, format!("{printed}\n")).unwrap();
                    }
                    secrets.insert(name, printed);
                }
                // The client of the reader's own web tier.
                shell.run("countersign client add web --grant password", "");
                replaced.extend([
                    (" 127.0.0.1:50051 ".to_owned(), format!(" {grpc} ")),
                    (" HOST ".to_owned(), format!(" -plaintext {grpc} ")),
                    (
                        "https://countersign.internal:50051".to_owned(),
                        format!("http://{grpc}"),
                    ),
                ]);
            }
            _ if text.starts_with("countersign agent --upstream") => {
                start_agent(&mut shell, &text, &socket);
            }
            _ if command.output.first().is_some_and(|line| line == "ERROR:") => {
                let ended = shell.run(&text, "");
                assert_ne!(ended.status, 0, "{}: {ended:?}", command.place());
                assert!(
                    agrees(&command.output, &ended.output),
                    "{}\n{}",
                    command.place(),
                    ended.output
                );
            }
            _ => {
                let ended = succeed(&mut shell, &command, &pairs);
                let shown = command.output.is_empty() || agrees(&command.output, &ended.output);
                assert!(shown, "{}\n{}", command.place(), ended.output);
            }
        }
    }
    assert!(count > 20, "only {count} commands were found");

    let logins = shell.run("countersign audit query --output json --type token.issued", "");
    assert!(
        logins.output.contains("203.0.113.7"),
        "the web tier states the user's address: {logins:?}"
    );
    let ada = shell.run("countersign user show ada --output json", "");
    assert!(ada.output.contains("\"admin\""), "{ada:?}");
    assert_audited(
        &mut shell,
        &[
            "token.refresh.reused",
            "session.revoked",
            "client.created",
            "client.updated",
        ],
    );
}
