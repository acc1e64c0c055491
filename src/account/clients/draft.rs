//! A client as a request describes it, and what of that is accepted.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::account::{fields, unknown_path};
use crate::clock::UnixMillis;
use crate::model::claims::MAX_ACCESS_TOKEN_TTL;
use crate::model::grant::{OWN_PREFIX, OWN_SCOPES, parse_audiences, parse_scopes};
use crate::model::session::MAX_SESSION_TTL;
use crate::model::{Client, ClientChange, ClientId, Error, Grant, Result, ReusePolicy};

const SECOND: Duration = Duration::from_secs(1);
const ACCESS_TTL: RangeInclusive<Duration> = SECOND..=MAX_ACCESS_TOKEN_TTL;
/// As for the configuration's: revocations are kept for as long as the longest session ever in force.
const SESSION_TTL: RangeInclusive<Duration> = SECOND..=MAX_SESSION_TTL;
const GRACE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
/// All sessions of a user lie in one record of the store, which every login reads.
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

/// A client as a request describes it: the fields of the wire's `Client` that a caller may set.
#[derive(Clone, Debug, Default)]
pub struct ClientDraft {
    /// Chosen by the creator.
    pub client_id: String,
    /// For people.
    pub display_name: String,
    /// How it gets tokens.
    pub grants: Vec<Grant>,
    /// Whom its tokens may be for; `*` is anyone.
    pub audiences: Vec<String>,
    /// What its tokens may carry; `*` is anything but `countersign:*`.
    pub scopes: Vec<String>,
    /// 1 s to 24 h; none means the configuration's, as for the others.
    pub access_token_ttl: Option<Duration>,
    /// 1 s to 3,660 days.
    pub refresh_idle_ttl: Option<Duration>,
    /// 1 s to 3,660 days.
    pub session_ttl: Option<Duration>,
    /// 0 to 300 s.
    pub refresh_grace: Option<Duration>,
    /// None means the configuration's.
    pub reuse_policy: Option<ReusePolicy>,
    /// At most 10,000; 0 means the configuration's.
    pub max_sessions_per_user: u32,
    /// Gets no tokens.
    pub disabled: bool,
}

impl ClientDraft {
    /// The client to be made at `now`.
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

    /// The change of the fields that `mask` names.
    pub(super) fn change(&self, mask: &[String]) -> Result<ClientChange> {
        unknown_path(mask, &PATHS)?;
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
                path => return Err(Error::internal(format!("no rule for the path {path}"))),
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
        let unknown = |scope: &String| scope.starts_with(OWN_PREFIX) && !OWN_SCOPES.contains(&scope.as_str());
        match self.scopes.iter().position(unknown) {
            None => Ok(scopes),
            Some(index) => Err(Error::invalid(
                format!("client.scopes[{index}]"),
                format!("must be one of {}", OWN_SCOPES.join(", ")),
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
