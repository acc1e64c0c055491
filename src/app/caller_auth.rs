//! Who calls: by token, by certificate, or nobody.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::services::App;
use crate::config::Server;
use crate::grpc::layers::{Authentication, Authenticator, Credential};
use crate::model::audit::Origin;
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{Caller, Client, ClientId, Epochs, Error, ErrorKind, Identity, Result};
use crate::revocation::Feed;
use smallvec::smallvec;

/// How long what was read of a client that shows a certificate is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// Tells who calls.
pub(super) struct CallerAuthenticator {
    app: Arc<App>,
    anonymous: Arc<Caller>,
    identities: BTreeMap<String, ClientId>,
    read: Arc<Mutex<HashMap<ClientId, Reading>>>,
}

/// What was read of a client. Moments are of the monotonic clock.
struct Reading {
    caller: Result<Arc<Caller>>,
    /// What of the client a later revocation would end.
    revocation_subject: RevocationSubject,
    at: Duration,
    /// When the store was last asked for another reading.
    asked: Duration,
}

impl CallerAuthenticator {
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

    /// Who stands behind a certificate is read from the store at most once a second. While the store is down the last
    /// reading counts for as long as the revocations are fresh: they tell of a client that was disabled since.
    fn by_certificate(&self, client: ClientId) -> Authentication {
        let now = self.app.stores.clock.monotonic();
        if let Some(reading) = self.read.lock().get_mut(&client) {
            let recent = |then: Duration| now.saturating_sub(then) < BELIEVED;
            if recent(reading.at) || recent(reading.asked) && reading.stands(&self.app.feed) {
                return Authentication::Ready(reading.caller.clone());
            }
            reading.asked = now;
        }
        let (app, read) = (self.app.clone(), self.read.clone());
        Authentication::Pending(Box::pin(async move {
            let found = match app.stores.durable.client(&client).await {
                Err(error) if error.kind == ErrorKind::StoreUnavailable => {
                    return match read.lock().get(&client) {
                        Some(reading) if reading.stands(&app.feed) => reading.caller.clone(),
                        _ => Err(error),
                    };
                }
                found => found?,
            };
            let reading = Reading::of(found.filter(|client| !client.disabled), now);
            let caller = reading.caller.clone();
            // As many entries as the configuration maps names: bounded.
            read.lock().insert(client, reading);
            caller
        }))
    }
}

impl Reading {
    fn of(client: Option<Client>, at: Duration) -> Self {
        let Some(client) = client else {
            return Self {
                caller: Err(Error::from(ErrorKind::CallerUnauthenticated)
                    .because("the certificate's client is disabled or unknown")),
                revocation_subject: RevocationSubject::default(),
                at,
                asked: at,
            };
        };
        let standing = EpochSet {
            user: None,
            client: client.id.clone(),
            session: None,
            // Disabling a client raises its epoch to at least the time of that change.
            epochs: Epochs {
                global: i64::MAX,
                user: i64::MAX,
                client: client.updated.0,
            },
        };
        Self {
            caller: Ok(Arc::new(Caller {
                scopes: client.caller_scopes().map(str::to_owned).collect(),
                origin: Origin {
                    actor: client.id.to_string(),
                    ..Origin::default()
                },
                identity: Identity::Machine { client: client.id },
            })),
            revocation_subject: RevocationSubject {
                epochs: smallvec![standing],
                ..RevocationSubject::default()
            },
            at,
            asked: at,
        }
    }

    /// Whether it may count although the store could not be asked again.
    fn stands(&self, feed: &Feed) -> bool {
        self.caller.is_ok() && feed.freshness().is_ok() && !feed.index().is_revoked(&self.revocation_subject)
    }
}

impl Authenticator for CallerAuthenticator {
    fn authenticate(&self, credential: Credential<'_>) -> Authentication {
        if let Some(bearer) = credential.bearer {
            if let Some(known) = self.app.authenticator.authenticate_locally(bearer) {
                return Authentication::Ready(known);
            }
            let (authenticator, bearer) = (self.app.authenticator.clone(), bearer.to_owned());
            return Authentication::Pending(Box::pin(async move { authenticator.authenticate(&bearer).await }));
        }
        let mapped = credential
            .peer
            .names
            .iter()
            .find_map(|name| self.identities.get(name.as_str()));
        match mapped {
            Some(client) => self.by_certificate(client.clone()),
            None => Authentication::Ready(Ok(self.anonymous.clone())),
        }
    }

    fn anonymous(&self) -> Arc<Caller> {
        self.anonymous.clone()
    }
}
