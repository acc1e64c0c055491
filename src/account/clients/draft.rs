//! The client fields of a request, and their checks.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::account::{check_update_mask, fields};
use crate::clock::UnixMillis;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::grant::{parse_audiences, parse_scopes};
use crate::model::scope::has_caller_prefix;
use crate::model::session::MAX_SESSION_TTL;
use crate::model::{CallerScope, Client, ClientChange, ClientId, Error, Grant, Result, ReusePolicy};

const SECOND: Duration = Duration::from_secs(1);
const ACCESS_TTL: RangeInclusive<Duration> = SECOND..=MAX_ACCESS_TOKEN_TTL;
/// The same limit as in the configuration: revocations are kept for as long as the longest possible session.
const SESSION_TTL: RangeInclusive<Duration> = SECOND..=MAX_SESSION_TTL;
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
/// The store keeps all sessions of a user in one record, which every login reads.
const MAX_SESSIONS: u32 = 10_000;

/// The paths that an update mask may name.
const PATHS: [&str; 11] = [
    "display_name",
    "grants",
    "audiences",
    "scopes",
    "access_token_ttl",
    "refresh_idle_ttl",
    "session_ttl",
    "refresh_grace",
    "reuse_policy",
    "disabled",
    "max_sessions_per_user",
];

/// The fields of the wire's `Client` that a caller may set, not yet checked.
#[derive(Clone, Debug, Default)]
pub struct ClientDraft {
    /// The id.
    pub client_id: String,
    /// A name for users and operators.
    pub display_name: String,
    /// How the client may get tokens.
    pub grants: Vec<Grant>,
    /// The audiences that its tokens may have; `*` allows every audience.
    pub audiences: Vec<String>,
    /// The scopes that its tokens may have; `*` allows every scope except `countersign:*`.
    pub scopes: Vec<String>,
    /// 1 s to 24 h. `None` means the configured value, here and in the next four fields.
    pub access_token_ttl: Option<Duration>,
    /// 1 s to 3,660 days.
    pub refresh_idle_ttl: Option<Duration>,
    /// 1 s to 3,660 days.
    pub session_ttl: Option<Duration>,
    /// 0 to 300 s.
    pub refresh_grace: Option<Duration>,
    /// When a used refresh token is accepted again.
    pub reuse_policy: Option<ReusePolicy>,
    /// At most 10,000; 0 means the configured value.
    pub max_sessions_per_user: u32,
    /// Whether the client is refused tokens.
    pub disabled: bool,
}

impl ClientDraft {
    /// Checks all fields and returns the client to create at `now`.
    pub(crate) fn check(&self, now: UnixMillis) -> Result<Client> {
        Ok(Client {
            id: ClientId::parse(&self.client_id, "client.client_id")?,
            display_name: self.display_name()?,
            grants: self.grants(),
            audiences: parse_audiences(&self.audiences, "client.audiences")?,
            scopes: self.scopes()?,
            access_token_ttl: self.access_token_ttl()?,
            refresh_idle_ttl: self.refresh_idle_ttl()?,
            session_ttl: self.session_ttl()?,
            refresh_grace: self.refresh_grace()?,
            reuse_policy: self.reuse_policy,
            max_sessions_per_user: self.max_sessions()?,
            disabled: self.disabled,
            created: now,
            updated: now,
        })
    }

    /// Checks the fields that `mask` names and returns their change.
    pub(super) fn change(&self, mask: &[String]) -> Result<ClientChange> {
        check_update_mask(mask, &PATHS)?;
        let mut change = ClientChange::default();
        for path in mask {
            match path.as_str() {
                "display_name" => change.display_name = Some(self.display_name()?),
                "grants" => change.grants = Some(self.grants()),
                "audiences" => change.audiences = Some(parse_audiences(&self.audiences, "client.audiences")?),
                "scopes" => change.scopes = Some(self.scopes()?),
                "access_token_ttl" => change.access_token_ttl = Some(self.access_token_ttl()?),
                "refresh_idle_ttl" => change.refresh_idle_ttl = Some(self.refresh_idle_ttl()?),
                "session_ttl" => change.session_ttl = Some(self.session_ttl()?),
                "refresh_grace" => change.refresh_grace = Some(self.refresh_grace()?),
                "reuse_policy" => change.reuse_policy = Some(self.reuse_policy),
                "disabled" => change.disabled = Some(self.disabled),
                "max_sessions_per_user" => change.max_sessions_per_user = Some(self.max_sessions()?),
                path => return Err(Error::internal(format!("the update mask path {path} is not handled"))),
            }
        }
        Ok(change)
    }

    fn display_name(&self) -> Result<String> {
        fields::text(&self.display_name, "client.display_name")
    }

    fn grants(&self) -> Vec<Grant> {
        let mut grants = self.grants.clone();
        grants.sort();
        grants.dedup();
        grants
    }

    fn scopes(&self) -> Result<Vec<String>> {
        let scopes = parse_scopes(&self.scopes, "client.scopes")?;
        let unknown = |scope: &String| has_caller_prefix(scope) && CallerScope::parse(scope).is_none();
        match self.scopes.iter().position(unknown) {
            None => Ok(scopes),
            Some(index) => Err(Error::invalid(
                format!("client.scopes[{index}]"),
                format!("must be one of {}", CallerScope::list()),
            )),
        }
    }

    fn access_token_ttl(&self) -> Result<Option<Duration>> {
        fields::duration(self.access_token_ttl, "client.access_token_ttl", ACCESS_TTL)
    }

    fn refresh_idle_ttl(&self) -> Result<Option<Duration>> {
        fields::duration(self.refresh_idle_ttl, "client.refresh_idle_ttl", SESSION_TTL)
    }

    fn session_ttl(&self) -> Result<Option<Duration>> {
        fields::duration(self.session_ttl, "client.session_ttl", SESSION_TTL)
    }

    fn refresh_grace(&self) -> Result<Option<Duration>> {
        fields::duration(self.refresh_grace, "client.refresh_grace", GRACE)
    }

    fn max_sessions(&self) -> Result<u32> {
        if self.max_sessions_per_user <= MAX_SESSIONS {
            return Ok(self.max_sessions_per_user);
        }
        Err(Error::invalid(
            "client.max_sessions_per_user",
            format!("must be at most {MAX_SESSIONS}"),
        ))
    }
}

#[cfg(test)]
#[path = "draft_tests.rs"]
mod tests;
