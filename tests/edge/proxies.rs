//! The proxies that `tests/run` installs, each with its own folder and ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::guard::{self, Ending};
use crate::support::process::find;
use crate::support::{Process, poll, ports};

/// A running proxy.
pub(crate) struct RunningProxy {
    pub(crate) address: SocketAddr,
    _process: Process,
}

/// Starts the program that `command` makes of a folder for its files and a port, until it listens on that port.
/// Another process may take the port first; then another one is tried.
fn start(name: &str, command: impl Fn(&Path, u16) -> Command) -> RunningProxy {
    for _ in 0..5 {
        let (folder, port) = (guard::scratch(name), ports::free());
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut process = Process::spawn(&mut command(&folder, port), &folder.join("log"), Ending::Kill);
        let listens = poll(Duration::from_secs(30), || match process.exited() {
            Some(_) => Some(false),
            None => std::net::TcpStream::connect(address).ok().map(|_| true),
        });
        match listens {
            Some(true) if process.exited().is_none() => {
                return RunningProxy {
                    address,
                    _process: process,
                };
            }
            _ if process.log().to_lowercase().contains("address already in use") => {}
            _ => panic!("{name} does not start; its log:\n{}", process.log()),
        }
    }
    panic!("{name} found no port");
}

/// Envoy with the configuration of `deploy/envoy.yaml`, modified by `changed`.
pub(crate) fn envoy(
    countersign: SocketAddr,
    application: SocketAddr,
    changed: impl Fn(String) -> String,
) -> RunningProxy {
    start("envoy", |folder, port| {
        let file = folder.join("envoy.yaml");
        let mut text = std::fs::read_to_string("deploy/envoy.yaml").unwrap();
        for (from, to) in [
            (
                "address: 0.0.0.0, port_value: 8080",
                SocketAddr::from(([127, 0, 0, 1], port)),
            ),
            ("address: app, port_value: 8000", application),
            ("address: countersign, port_value: 50051", countersign),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, &format!("address: {}, port_value: {}", to.ip(), to.port()));
        }
        std::fs::write(&file, changed(text)).unwrap();
        let mut command = Command::new(tool("envoy"));
        command.args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--log-level",
            "warning",
            "-c",
        ]);
        command.arg(file);
        command
    })
}

/// nginx with this content of the `server` block.
pub(crate) fn nginx(server: &str) -> RunningProxy {
    start("nginx", |folder, port| {
        let here = folder.display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {here}/pid; error_log stderr;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n access_log off; client_body_temp_path {here}/body; proxy_temp_path {here}/proxy;\n\
             fastcgi_temp_path {here}/fastcgi; uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n\
             server {{\n listen 127.0.0.1:{port};\n{server}\n}}\n}}\n"
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let program = find("nginx").unwrap_or_else(|| PathBuf::from("/usr/sbin/nginx"));
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(file);
        command
    })
}

/// Traefik with this dynamic configuration.
pub(crate) fn traefik(dynamic: &str) -> RunningProxy {
    start("traefik", |folder, port| {
        let file = folder.join("dynamic.yaml");
        let inner = format!("127.0.0.1:{}", ports::free());
        std::fs::write(&file, dynamic.replace("127.0.0.1:50088", &inner)).unwrap();
        let mut command = Command::new(tool("traefik"));
        // As the head of deploy/traefik.yaml says, but for `aliasHeadersStrategy`: Countersign is the guard here.
        command.arg(format!("--entrypoints.web.address=127.0.0.1:{port}"));
        command.arg(format!("--entrypoints.countersign.address={inner}"));
        let forwarded = "--entrypoints.countersign.forwardedheaders";
        command.arg(format!("{forwarded}.trustedips=127.0.0.1/32"));
        command.arg(format!("{forwarded}.notappendxforwardedfor=true"));
        command.arg(format!("--providers.file.filename={}", file.display()));
        command.args(["--global.checknewversion=false", "--global.sendanonymoususage=false"]);
        command
    })
}

/// Caddy with this configuration, on its own address.
pub(crate) fn caddy(site: &str) -> RunningProxy {
    start("caddy", |folder, port| {
        let file = folder.join("Caddyfile");
        let mut text = site.to_owned();
        for (from, to) in [
            (
                "{\n\tservers {",
                "{\n\tadmin off\n\tauto_https off\n\tservers {".to_owned(),
            ),
            ("app.example.org {", format!("http://:{port} {{\n\tbind 127.0.0.1")),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, &to);
        }
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(tool("caddy"));
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
        command
            .env("XDG_DATA_HOME", folder)
            .env("XDG_CONFIG_HOME", folder)
            .env("HOME", folder);
        command
    })
}

fn tool(name: &str) -> PathBuf {
    let installed = PathBuf::from("target/tools/bin").join(name);
    if installed.is_file() {
        return std::fs::canonicalize(installed).unwrap();
    }
    find(name).unwrap_or_else(|| panic!("{name} is not installed: tests/run does that"))
}
