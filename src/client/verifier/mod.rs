//! Local validation: the verifier follows the service's keys and revocations; the rest is in the token.

mod follow;
mod numbered_keys;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use tonic::Status;

pub use self::trust::TrustFollower;
use super::calls::Client;
use crate::keys::verify::unverified_claims;
use crate::model::{Claims, InactiveReason};
use crate::proto::convert;
use crate::validator::{TokenValidator, ValidatorConfig};

/// How a verifier works.
#[derive(Clone, Debug)]
pub struct VerifierConfig {
    /// The only issuer: the service's `tokens.issuer`, exactly.
    pub issuer: String,
    /// The clock difference that is tolerated; at most 5 s counts.
    pub leeway: Duration,
    /// How old the knowledge of revocations may be for a local answer.
    pub max_staleness: Duration,
    /// The memory of the cache of verified tokens, in bytes.
    pub cache_bytes: u64,
}

impl VerifierConfig {
    /// The service's own defaults, for tokens of this issuer.
    #[must_use]
    pub fn new(issuer: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            leeway: Duration::from_secs(5),
            max_staleness: Duration::from_secs(30),
            cache_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Why a token was not accepted.
#[derive(Debug)]
pub enum Refused {
    /// The token is not active.
    Inactive(InactiveReason),
    /// There is no answer: too little is known of revocations, and the service cannot be asked.
    Unavailable(Status),
}

/// Validates tokens from memory, revocations included. Cheap to clone; the last clone stops following.
///
/// ```no_run
/// use countersign::client::{Client, Credential, Refused, Verifier, VerifierConfig};
///
/// # async fn example(token: &str, secret: String) -> Result<(), tonic::Status> {
/// let client = Client::builder("http://127.0.0.1:50051")
///     .credential(Credential::Secret {
///         client_id: "inventory".to_owned(),
///         secret: secret.into(),
///         scope: vec!["countersign:watch".to_owned(), "countersign:validate".to_owned()],
///     })
///     .connect_lazy()?;
/// let verifier = Verifier::start(client, VerifierConfig::new("https://countersign.local"));
/// verifier.ready().await;
/// match verifier.verify(token, "api", &["orders:read".to_owned()]).await {
///     Ok(claims) => println!("{} may read orders", claims.sub),
///     Err(Refused::Inactive(reason)) => println!("no good: {reason:?}"),
///     Err(Refused::Unavailable(status)) => println!("try again: {status}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Verifier {
    client: Client,
    validator: Arc<TokenValidator<TrustFollower>>,
}

impl Verifier {
    /// Starts a verifier that follows the service through `client`. The client needs the scope `countersign:watch`, and
    /// `countersign:validate` to ask the service while local knowledge is too old. Before the first snapshot is complete
    /// there is no local answer; see [`Verifier::ready`]. Call it within a tokio runtime.
    #[must_use]
    pub fn start(client: Client, config: VerifierConfig) -> Self {
        let validator = TokenValidator::new(
            TrustFollower::start(client.clone(), config.max_staleness),
            client.clock().clone(),
            ValidatorConfig {
                issuer: config.issuer,
                leeway: config.leeway,
                cache_bytes: config.cache_bytes,
                // The library does not say how long an answer may be kept: it is asked about each request.
                answer_ttl: Duration::ZERO,
            },
        );
        Self {
            client,
            validator: Arc::new(validator),
        }
    }

    /// Waits until the verifier can answer locally.
    pub async fn ready(&self) {
        self.validator.trust().ready().await;
    }

    /// Whether the first snapshot is complete.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.validator.trust().is_ready()
    }

    /// How old the knowledge of revocations is; none before the first snapshot.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        self.validator.trust().staleness()
    }

    /// Validates `token` for this audience (empty: any) and all of these scopes, with the same result as `Validate`. It
    /// answers locally; while local knowledge is too old, it asks the service.
    pub async fn verify(&self, token: &str, audience: &str, scopes: &[String]) -> Result<Arc<Claims>, Refused> {
        match self.verify_local(token, audience, scopes) {
            Some(result) => result.map_err(Refused::Inactive),
            None => self.verify_remote(token, audience, scopes).await,
        }
    }

    /// Like [`Verifier::verify`], but never asks the service: none while local knowledge is too old.
    #[must_use]
    pub fn verify_local(
        &self,
        token: &str,
        audience: &str,
        scopes: &[String],
    ) -> Option<Result<Arc<Claims>, InactiveReason>> {
        let validation = self.validator.validate(token, audience, scopes).ok()?;
        Some(validation.token.map(|token| Arc::clone(&token.claims)))
    }

    async fn verify_remote(&self, token: &str, audience: &str, scopes: &[String]) -> Result<Arc<Claims>, Refused> {
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let response = self
            .client
            .validate(token, audience, &scopes)
            .await
            .map_err(Refused::Unavailable)?;
        if response.active {
            // The service has validated the token. Its claims are read from the token, which has more than the response.
            return unverified_claims(token)
                .map(Arc::new)
                .ok_or_else(|| Refused::Unavailable(Status::internal("a token that this version cannot read")));
        }
        Err(match convert::reason::inactive(response.reason()) {
            Some(reason) => Refused::Inactive(reason),
            None => Refused::Unavailable(Status::internal("a reason that this version does not know")),
        })
    }
}
