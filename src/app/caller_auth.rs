//! Authenticating callers: by bearer token, by client certificate, or as anonymous.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::smallvec;

use super::services::App;
use crate::clock::Clock;
use crate::config::Server;
use crate::grpc::layers::{Authentication, Authenticator, Credential};
use crate::model::audit::Origin;
use crate::model::revocation::{EpochSet, RevocationSubject};
use crate::model::{Caller, Client, ClientId, Epochs, Error, ErrorKind, Identity, Result};
use crate::revocation::Feed;
use crate::store::DurableStore;
use crate::token::BearerAuthenticator;

/// How long the stored row of a certificate's client is used before it is read again.
const CLIENT_TTL: Duration = Duration::from_secs(1);

/// Authenticates the callers of the service.
pub(super) struct CallerAuthenticator {
    bearer: Arc<BearerAuthenticator>,
    store: Arc<dyn DurableStore>,
    feed: Arc<Feed>,
    clock: Arc<dyn Clock>,
    anonymous: Arc<Caller>,
    /// The clients of the certificates, by the name in the certificate.
    identities: BTreeMap<String, ClientId>,
    cached: Arc<Mutex<HashMap<ClientId, CachedClient>>>,
}

/// The caller of a client that was read for its certificate. Times are of the monotonic clock.
struct CachedClient {
    caller: Result<Arc<Caller>>,
    /// What a later revocation of the client would name.
    revocation_subject: RevocationSubject,
    read_at: Duration,
    /// When the store was last asked for the client again.
    asked_at: Duration,
}

impl CallerAuthenticator {
    /// An authenticator with the certificates' names and the anonymous scopes of the configuration.
    pub(super) fn new(app: &App, server: &Server) -> Result<Self> {
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
            bearer: app.authenticator.clone(),
            store: app.stores.durable.clone(),
            feed: app.feed.clone(),
            clock: app.stores.clock.clone(),
            anonymous: Arc::new(anonymous),
            identities,
            cached: Arc::default(),
        })
    }

    /// The caller of a client that shows a certificate. The client is read from the store at most once a second. While the
    /// store is down, the last reading is used as long as the revocations are fresh: they tell if the client was disabled
    /// since.
    fn by_certificate(&self, client: ClientId) -> Authentication {
        let now = self.clock.monotonic();
        if let Some(cached) = self.cached.lock().get_mut(&client) {
            let is_recent = |then: Duration| now.saturating_sub(then) < CLIENT_TTL;
            if is_recent(cached.read_at) || is_recent(cached.asked_at) && cached.is_usable(&self.feed) {
                return Authentication::Ready(cached.caller.clone());
            }
            cached.asked_at = now;
        }
        let (store, feed, cached) = (self.store.clone(), self.feed.clone(), self.cached.clone());
        Authentication::Pending(Box::pin(async move {
            let found = match store.client(&client).await {
                Err(error) if error.kind == ErrorKind::StoreUnavailable => {
                    return match cached.lock().get(&client) {
                        Some(cached) if cached.is_usable(&feed) => cached.caller.clone(),
                        _ => Err(error),
                    };
                }
                found => found?,
            };
            let read = CachedClient::of(found.filter(|client| !client.disabled), now);
            let caller = read.caller.clone();
            // Bounded: there are at most as many entries as names in the configuration.
            cached.lock().insert(client, read);
            caller
        }))
    }
}

impl CachedClient {
    fn of(client: Option<Client>, read_at: Duration) -> Self {
        let Some(client) = client else {
            return Self {
                caller: Err(Error::from(ErrorKind::CallerUnauthenticated)
                    .because("the certificate's client is disabled or unknown")),
                revocation_subject: RevocationSubject::default(),
                read_at,
                asked_at: read_at,
            };
        };
        let epochs = EpochSet {
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
                epochs: smallvec![epochs],
                ..RevocationSubject::default()
            },
            read_at,
            asked_at: read_at,
        }
    }

    /// Whether it may be used although the store could not be asked again.
    fn is_usable(&self, feed: &Feed) -> bool {
        self.caller.is_ok() && feed.freshness().is_ok() && !feed.index().is_revoked(&self.revocation_subject)
    }
}

impl Authenticator for CallerAuthenticator {
    fn authenticate(&self, credential: Credential<'_>) -> Authentication {
        // No call of any caller is answered from, or written to, a database server that another one has replaced.
        if let Err(superseded) = self.feed.check_side() {
            return Authentication::Ready(Err(superseded));
        }
        if let Some(bearer) = credential.bearer {
            if let Some(caller) = self.bearer.authenticate_locally(bearer) {
                return Authentication::Ready(caller);
            }
            let (authenticator, bearer) = (self.bearer.clone(), bearer.to_owned());
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
