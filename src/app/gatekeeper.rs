//! Who calls: by token, by certificate, or nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::parts::App;
use crate::config::Server;
use crate::grpc::layers::{Authentication, Authenticator, Credential};
use crate::model::audit::Origin;
use crate::model::{Caller, ClientId, Error, ErrorKind, Identity, Result};

/// How long what was read of a client that shows a certificate is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// Tells who calls.
pub(super) struct Gatekeeper {
    app: Arc<App>,
    anonymous: Arc<Caller>,
    identities: BTreeMap<String, ClientId>,
    read: Arc<Mutex<HashMap<ClientId, Reading>>>,
}

/// What was read of a client, and when by the monotonic clock.
struct Reading {
    caller: Result<Arc<Caller>>,
    at: Duration,
}

impl Gatekeeper {
    /// A gatekeeper with the certificates' names and the rights of nobody from the configuration.
    pub(super) fn new(app: Arc<App>, server: &Server) -> Result<Self> {
        let identities = server
            .tls
            .client_identities
            .iter()
            .map(|(name, client)| Ok((name.clone(), ClientId::parse(client, "server.tls.client_identities")?)))
            .collect::<Result<_>>()?;
        let anonymous = Caller {
            identity: Identity::Anonymous,
            scopes: server.anonymous_scopes().to_vec(),
            origin: Origin::default(),
        };
        Ok(Self {
            app,
            anonymous: Arc::new(anonymous),
            identities,
            read: Arc::default(),
        })
    }

    fn by_certificate(&self, client: ClientId) -> Authentication {
        let now = self.app.clock.monotonic();
        if let Some(reading) = self.read.lock().get(&client)
            && now.saturating_sub(reading.at) < BELIEVED
        {
            return Authentication::Known(reading.caller.clone());
        }
        let (app, read) = (self.app.clone(), self.read.clone());
        Authentication::Asking(Box::pin(async move {
            let found = app.durable.client(&client).await?;
            let caller = match found.filter(|client| !client.disabled) {
                Some(client) => Ok(Arc::new(Caller {
                    scopes: client.caller_scopes().map(str::to_owned).collect(),
                    origin: Origin {
                        actor: client.id.to_string(),
                        ..Origin::default()
                    },
                    identity: Identity::Machine { client: client.id },
                })),
                None => Err(Error::from(ErrorKind::CallerUnauthenticated)
                    .because("the certificate's client is disabled or unknown")),
            };
            // As many entries as the configuration maps names: bounded.
            let reading = Reading {
                caller: caller.clone(),
                at: now,
            };
            read.lock().insert(client, reading);
            caller
        }))
    }
}

impl Authenticator for Gatekeeper {
    fn authenticate(&self, credential: Credential<'_>) -> Authentication {
        if let Some(bearer) = credential.bearer {
            if let Some(known) = self.app.tokens.authenticate_from_memory(bearer) {
                return Authentication::Known(known.map(Arc::new));
            }
            let (tokens, bearer) = (self.app.tokens.clone(), bearer.to_owned());
            return Authentication::Asking(Box::pin(
                async move { tokens.authenticate(&bearer).await.map(Arc::new) },
            ));
        }
        let mapped = credential
            .peer
            .names
            .iter()
            .find_map(|name| self.identities.get(name.as_str()));
        match mapped {
            Some(client) => self.by_certificate(client.clone()),
            None => Authentication::Known(Ok(self.anonymous.clone())),
        }
    }
}
