//! The Helm chart: the comments of its values, its notes, and the runbook in a pod.

use super::commands::root;
use super::container::Container;
use super::runbook::Duty;
use super::shell::Shell;
use super::{runnable, succeed};
use crate::support::{Database, KeySpace};

const CHART: &str = "deploy/helm/countersign";

fn chart_file(name: &str) -> String {
    let file = root().join(CHART).join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The variables that a template sets to a fixed value.
fn environment_of(template: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = template.lines().map(str::trim).collect();
    let pairs = lines.windows(2).filter_map(|pair| {
        let name = pair[0].strip_prefix("- name: COUNTERSIGN_")?;
        let value = pair[1].strip_prefix("value: ")?;
        Some((format!("COUNTERSIGN_{name}"), value.to_owned()))
    });
    pairs.collect()
}

/// The configuration file of the default values.
fn configuration() -> String {
    let values = chart_file("values.yaml");
    let (_, block) = values
        .split_once("\nconfig: |\n")
        .expect("the values have a configuration");
    let lines = block
        .lines()
        .take_while(|line| line.is_empty() || line.starts_with("  "));
    lines.map(|line| line.trim_start().to_owned() + "\n").collect()
}

/// A pod of the chart with its default values, on these files of the stand-ins.
fn pod(shell: &Shell, keys: &KeySpace) -> Container {
    let deployment = chart_file("templates/deployment.yaml");
    let mut environment = environment_of(&chart_file("templates/_helpers.tpl"));
    environment.extend(environment_of(&deployment));
    assert!(environment.len() > 4, "{environment:?}");
    // Only with a client CA, which the default values do not name.
    environment.retain(|(name, _)| !name.ends_with("CLIENT_CA"));
    // This Redis is shared with other tests.
    environment.push(("COUNTERSIGN_STORAGE__REDIS_PREFIX".to_owned(), keys.prefix().to_owned()));
    let config = shell.own("config");
    std::fs::create_dir(&config).unwrap();
    std::fs::write(config.join("countersign.toml"), configuration()).unwrap();
    let secret = |name: &str| {
        let folder = shell.own("secrets").join(name);
        assert!(
            folder.is_dir(),
            "the pods need the Secret {name}, and no command makes it"
        );
        folder
    };
    let values = chart_file("values.yaml");
    for name in ["storesSecret: countersign-stores", "secret: countersign-tls"] {
        assert!(values.contains(name), "{name}");
    }
    Container {
        environment,
        paths: vec![
            ("/etc/countersign/config", config),
            ("/etc/countersign/stores", secret("countersign-stores")),
            ("/etc/countersign/tls", secret("countersign-tls")),
        ],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_and_the_runbook_work_as_they_stand() {
    let (database, keys) = (Database::fresh().await, KeySpace::fresh());
    let mut shell = Shell::start();
    let folder = shell.folder().to_owned();
    // What an administrator brings: the URLs, and a certificate.
    std::fs::write(folder.join("database_url"), format!("{}\n", database.url())).unwrap();
    std::fs::write(folder.join("redis_url"), format!("{}\n", keys.url())).unwrap();
    let made = shell.run(
        "deploy/make-secrets && cp deploy/secrets/tls_cert tls.crt && cp deploy/secrets/tls_key tls.key",
        "",
    );
    assert_eq!(made.status, 0, "{made:?}");

    let mut replica = None;
    for command in runnable(&format!("{CHART}/values.yaml")) {
        succeed(&mut shell, &command, &[]);
        if command.program() == "helm" {
            let pod = pod(&shell, &keys);
            pod.install(&shell.container(), None);
            // The hook runs before the pods, without the configuration file.
            let hook = chart_file("templates/migrate.yaml");
            assert!(hook.contains("args: [migrate]"), "{hook}");
            let migrated = shell.run("kubectl exec deploy/countersign -- countersign migrate", "");
            assert_eq!(migrated.status, 0, "{migrated:?}");
            let started = pod.serve(&["serve", "--config=/etc/countersign/config/countersign.toml"]);
            pod.install(&shell.container(), Some(&started));
            replica = Some(started);
        }
    }
    assert!(replica.is_some(), "a command installs the chart");
    for command in runnable(&format!("{CHART}/templates/NOTES.txt")) {
        let ended = succeed(
            &mut shell,
            &command,
            &[("{{ include \"countersign.name\" . }}", "countersign")],
        );
        if command.text.contains(" doctor ") {
            assert!(!ended.output.contains("FAILED"), "{ended:?}");
        }
    }
    let config = "--config /etc/countersign/config/countersign.toml --output json";
    let ada = shell.run(
        &format!("kubectl exec deploy/countersign -- countersign user show ada {config}"),
        "",
    );
    assert!(ada.output.contains("\"admin\""), "{ada:?}");
    let ended = shell.run(
        &format!("kubectl exec deploy/countersign -- countersign user delete ada {config}"),
        "",
    );
    assert_eq!(ended.status, 0, "{ended:?}");

    Duty {
        shell: &mut shell,
        alias: "kubectl",
        replaced: vec![(" POD ", " countersign-0 ")],
        database: Some(database.url()),
        whole: false,
        roll_out: None,
    }
    .walk();
    for command in runnable("deploy/istio.yaml") {
        succeed(&mut shell, &command, &[]);
    }
}
