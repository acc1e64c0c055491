//! A running `countersign agent`.

use std::time::Duration;

use countersign::proto::token_service_client::TokenServiceClient;
use tonic::transport::{Channel, Endpoint};

use super::guard::{self, Ending};
use super::ports;
use super::serve::Storage;
use super::{Caller, Countersign, Process, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

/// An agent that follows `upstream`.
pub struct Agent {
    pub process: Process,
    listen: String,
}

impl Agent {
    /// Starts an agent whose client may watch and validate.
    pub fn start(storage: &Storage, upstream: &Countersign, listen: &str, settings: &[(&str, &str)]) -> Self {
        Self::with(storage, upstream, listen, &["watch", "validate"], settings)
    }

    /// Like [`Agent::start`], with the upstream at this URL.
    pub fn start_at(storage: &Storage, upstream: &str, listen: &str) -> Self {
        Self::with_url(storage, upstream, listen, &["watch", "validate"], &[])
    }

    /// Starts an agent whose client has these `countersign:` scopes at the upstream.
    pub fn with(
        storage: &Storage,
        upstream: &Countersign,
        listen: &str,
        rights: &[&str],
        settings: &[(&str, &str)],
    ) -> Self {
        Self::with_url(storage, &upstream.grpc_url(), listen, rights, settings)
    }

    fn with_url(storage: &Storage, upstream: &str, listen: &str, rights: &[&str], settings: &[(&str, &str)]) -> Self {
        let scopes: Vec<String> = rights.iter().map(|right| format!("countersign:{right}")).collect();
        let mut words = vec!["client", "add", "agent", "--grant", "client_secret"];
        words.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
        let made = storage.run(&words);
        let secret = made.json()["clientSecret"].as_str().unwrap().to_owned();
        let own = guard::scratch("agent");
        let mut command = storage.command();
        command
            .env_remove("COUNTERSIGN_TOKENS__ISSUER")
            .args(["agent", "--upstream", upstream, "--listen", listen])
            .env("COUNTERSIGN_AGENT__CLIENT_ID", "agent")
            .env("COUNTERSIGN_AGENT__CLIENT_SECRET", secret)
            .envs(settings.iter().copied());
        Self {
            process: Process::spawn(&mut command, &own.join("log"), Ending::Kill),
            listen: listen.to_owned(),
        }
    }

    /// A connection to the agent, made at the first call.
    pub fn channel(&self) -> Channel {
        let endpoint = match self.listen.strip_prefix("unix:") {
            Some(path) => Endpoint::from_shared(format!("unix:{path}")).unwrap(),
            None => Endpoint::from_shared(format!("http://{}", self.listen)).unwrap(),
        };
        endpoint.timeout(TIMEOUT).connect_lazy()
    }

    /// A caller of the agent, once it answers.
    pub async fn caller(&self) -> Caller {
        let caller = Caller {
            tokens: TokenServiceClient::new(self.channel()),
        };
        eventually("the agent answers", TIMEOUT, || async {
            caller.validate("garbage").await.ok().map(drop)
        })
        .await;
        caller
    }
}

/// A free address for an agent.
pub fn listen_anywhere() -> String {
    format!("127.0.0.1:{}", ports::free())
}
