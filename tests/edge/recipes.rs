//! The configurations of `deploy/`, each run by its proxy.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;

use crate::application::send;
use crate::proxies::{RunningProxy, caddy, envoy, nginx, traefik};
use crate::site::{SECRET, Site};
use crate::support::eventually;

/// A proxy with a configuration in `deploy/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Envoy,
    Nginx,
    Traefik,
    Caddy,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Envoy, Self::Nginx, Self::Traefik, Self::Caddy];

    /// Starts the proxy in front of this application, with its configuration as `changed` makes it.
    pub(crate) async fn start(
        self,
        site: &Site,
        application: SocketAddr,
        changed: impl Fn(String) -> String,
    ) -> RunningProxy {
        let proxy = match self {
            Self::Envoy => return envoy(site.server.grpc(), application, changed),
            Self::Nginx => nginx(&changed(configuration("nginx.conf", site, application))),
            Self::Traefik => traefik(&changed(configuration("traefik.yaml", site, application))),
            Self::Caddy => caddy(&changed(configuration("Caddyfile", site, application))),
        };
        eventually("the proxy has read its routes", Duration::from_secs(20), || async {
            let answer = send(proxy.address, "GET", "/", &[]).await;
            (answer.status != StatusCode::NOT_FOUND).then_some(())
        })
        .await;
        proxy
    }

    /// A change of the configuration that gives the route of all paths these settings, too.
    pub(crate) fn with_settings(self, settings: &[(&str, &str)]) -> impl Fn(String) -> String {
        let (from, to) = if self == Self::Envoy {
            let settings: Vec<String> = settings
                .iter()
                .map(|(key, value)| format!("{key}: \"{value}\""))
                .collect();
            let to = format!("context_extensions: {{ login: /login, {} }}", settings.join(", "));
            ("context_extensions: { login: /login }", to)
        } else {
            let settings: Vec<String> = settings.iter().map(|(key, value)| format!("&{key}={value}")).collect();
            ("?audience=api", format!("?audience=api{}", settings.concat()))
        };
        move |text| {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text.replace(from, &to)
        }
    }
}

/// A configuration file of `deploy/`, with these addresses.
fn configuration(file: &str, site: &Site, application: SocketAddr) -> String {
    let mut text = std::fs::read_to_string(format!("deploy/{file}")).unwrap();
    for (from, to) in [
        ("http://countersign:50080", site.server.http_url()),
        ("http://app:8000", format!("http://{application}")),
        ("the-shared-secret", SECRET.to_owned()),
    ] {
        assert!(text.contains(from), "{file}: {from}");
        text = text.replace(from, &to);
    }
    text
}
