//! The session record, and the state machine that decides about a presented refresh token.
//!
//! The `SQLite` store calls these functions inside its transaction. The Lua scripts of the Redis store implement the same
//! rules, and the conformance tests compare the two.

use super::client::ReusePolicy;
use super::epoch::Epochs;
use super::grant::{Narrowing, json_len, narrow, narrow_audience};
use super::ids::{ClientId, SessionId, UserId};
use super::session::{
    EXPIRED_RECORD_TTL, Evidence, MAX_FAST_FORWARD, NewSession, Presented, Refusal, Rotated, Rotation, SessionContext,
    SessionView,
};
use crate::clock::UnixMillis;
use crate::secret::same;

/// A session as the store of sessions keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session id.
    pub id: SessionId,
    /// The user.
    pub user: UserId,
    /// The client.
    pub client: ClientId,
    /// SHA-256 of the session secret.
    pub secret_hash: [u8; 32],
    /// The era of the store of sessions in which it was created. In another era the record counts as absent.
    pub era: i64,
    /// The current generation.
    pub generation: u32,
    /// The refresh key that tagged the current generation.
    pub refresh_key: u32,
    /// When the current generation was created; `created` for generation 0.
    pub rotated: UnixMillis,
    /// The attempt id of the refresh that created the current generation.
    pub attempt_id: String,
    /// The granted scopes.
    pub scope: Vec<String>,
    /// The granted audiences.
    pub audience: Vec<String>,
    /// When the session began.
    pub created: UnixMillis,
    /// When the session ends unless it is refreshed; never after `expires`.
    pub idle_expires: UnixMillis,
    /// When the session ends at the latest.
    pub expires: UnixMillis,
    /// The epochs with which it was created.
    pub epochs: Epochs,
    /// Whether it is live.
    pub state: RecordState,
    /// Where the login came from, for display.
    pub context: SessionContext,
}

/// The state of a session record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// The session is live.
    Live,
    /// The session is live, and its last rotation skipped generations that the store had lost. Within the grace period, the
    /// generation before the presented one is accepted too.
    FastForwarded,
    /// A refresh token was reused, so the session is ended.
    Tombstone {
        /// The reused generation.
        presented: u32,
    },
}

/// What the store must do with the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Keep it unchanged.
    Same,
    /// Replace it by this record.
    Become(Box<SessionRecord>),
    /// Delete it.
    Gone,
}

impl SessionRecord {
    /// The record of a session that begins at `now`.
    #[must_use]
    pub fn begin(new: &NewSession, now: UnixMillis) -> Self {
        Self {
            id: new.id,
            user: new.user,
            client: new.client.clone(),
            secret_hash: new.secret_hash,
            era: new.era,
            generation: 0,
            refresh_key: new.refresh_key,
            rotated: new.created,
            attempt_id: String::new(),
            scope: new.scope.clone(),
            audience: new.audience.clone(),
            created: new.created,
            idle_expires: now.plus(new.idle_ttl).min(new.expires),
            expires: new.expires,
            epochs: new.epochs,
            state: RecordState::Live,
            context: new.context.clone(),
        }
    }

    /// Whether the session can be refreshed or revoked at `now`.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        !self.has_expired(now) && !matches!(self.state, RecordState::Tombstone { .. })
    }

    /// When the session ends unless it is refreshed.
    #[must_use]
    pub fn ends(&self) -> UnixMillis {
        self.idle_expires.min(self.expires)
    }

    /// Whether the session has expired at `now`.
    #[must_use]
    pub fn has_expired(&self, now: UnixMillis) -> bool {
        now >= self.ends()
    }

    /// Whether the session expired so long ago that it counts as absent.
    #[must_use]
    pub fn is_absent(&self, now: UnixMillis) -> bool {
        now >= self.ends().plus(EXPIRED_RECORD_TTL)
    }

    /// The fields for display.
    #[must_use]
    pub fn view(&self) -> SessionView {
        SessionView {
            id: self.id,
            client: self.client.clone(),
            created: self.created,
            refreshed: self.rotated,
            expires: self.idle_expires,
            absolute_expires: self.expires,
            scope: self.scope.clone(),
            epochs: self.epochs,
            context: self.context.clone(),
        }
    }

    /// Decides about the refresh token `presented` at `now`: the result, and what happens to the record.
    #[must_use]
    pub fn present(&self, presented: &Presented, now: UnixMillis) -> (Rotation, Next) {
        let is_other_session = self.era != presented.era || !same(&self.secret_hash, &presented.secret_hash);
        if is_other_session || self.is_absent(now) {
            return (Rotation::Unknown, Next::Same);
        }
        if self.has_expired(now) {
            return (Rotation::Expired, Next::Same);
        }
        if let RecordState::Tombstone { presented } = self.state {
            return (Rotation::Reused(self.evidence(presented, false)), Next::Same);
        }
        let (p, c) = (presented.generation, self.generation);
        let is_replay = p < c && self.is_replay(presented, now);
        let is_overdue = presented.not_after.is_some_and(|not_after| now > not_after);
        if !is_replay && (is_overdue || presented.may_be_late && p < c) {
            return (Rotation::Late, Next::Same);
        }
        if p > c.saturating_add(MAX_FAST_FORWARD) {
            return (Rotation::TooFarAhead, Next::Gone);
        }
        if p < c && !is_replay {
            // Only the evidence and what decides when the record goes are kept.
            let tombstone = Self {
                state: RecordState::Tombstone { presented: p },
                attempt_id: String::new(),
                scope: Vec::new(),
                audience: Vec::new(),
                context: SessionContext::default(),
                ..self.clone()
            };
            let evidence = self.evidence(p, true);
            return (Rotation::Reused(evidence), Next::Become(Box::new(tombstone)));
        }
        let (scope, audience) = match self.narrowed(presented) {
            Ok(narrowed) => narrowed,
            Err(refusal) => return (Rotation::Refused(refusal), Next::Same),
        };
        if p < c {
            return (Rotation::Replayed(self.rotation(scope, audience, now)), Next::Same);
        }
        let next = self.rotate(presented, now);
        let rotated = next.rotation(scope, audience, now);
        let rotation = match p - c {
            0 => Rotation::Rotated(rotated),
            lost => Rotation::FastForwarded { rotated, lost },
        };
        (rotation, Next::Become(Box::new(next)))
    }

    /// Whether an earlier generation gets the current token again.
    fn is_replay(&self, presented: &Presented, now: UnixMillis) -> bool {
        let generations_back = self.generation - presented.generation;
        let in_grace = now.since(self.rotated) < presented.grace;
        let attempt_matches = presented.policy == ReusePolicy::Tolerant || presented.attempt_id == self.attempt_id;
        let before_fast_forward = generations_back == 2 && self.state == RecordState::FastForwarded;
        in_grace && ((generations_back == 1 && attempt_matches) || before_fast_forward)
    }

    fn rotate(&self, presented: &Presented, now: UnixMillis) -> Self {
        let state = if presented.generation == self.generation {
            RecordState::Live
        } else {
            RecordState::FastForwarded
        };
        let newer = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        Self {
            // After four billion rotations the session stays at the last generation.
            generation: presented.generation.saturating_add(1),
            refresh_key: presented.refresh_key,
            rotated: now,
            attempt_id: presented.attempt_id.clone(),
            idle_expires: now.plus(presented.idle_ttl).min(self.expires),
            state,
            context: SessionContext {
                user_agent: newer(&presented.context.user_agent, &self.context.user_agent),
                ip_address: newer(&presented.context.ip_address, &self.context.ip_address),
                device_name: newer(&presented.context.device_name, &self.context.device_name),
            },
            ..self.clone()
        }
    }

    /// The scopes and audiences of the next access token. The token is signed after the record has changed, so its size is
    /// checked here: a token that is too large must not rotate the session. Audiences that need escapes in JSON, from
    /// before they were refused, are counted too small (see [`json_len`]); such a token fails when it is signed, after the
    /// rotation.
    fn narrowed(&self, presented: &Presented) -> Result<(Vec<String>, Vec<String>), Refusal> {
        type NewRefusal = fn(String) -> Refusal;
        let names_or_refusal = |narrowed: Narrowing, wider: NewRefusal, lost: NewRefusal| match narrowed {
            Narrowing::To(names) => Ok(names),
            Narrowing::Wider(name) => Err(wider(name)),
            Narrowing::Lost(name) => Err(lost(name)),
        };
        let scope = narrow(&presented.scope, &self.scope, &presented.allowed_scope);
        let scope = names_or_refusal(scope, Refusal::WiderScope, Refusal::LostScope)?;
        let audience = narrow_audience(
            &presented.audience,
            &self.audience,
            &presented.allowed_audience,
            &presented.own_audience,
            &self.scope,
        );
        let audience = names_or_refusal(audience, Refusal::WiderAudience, Refusal::LostAudience)?;
        if json_len(&scope, &audience) > presented.max_claims_bytes as usize {
            return Err(Refusal::TooLarge);
        }
        Ok((scope, audience))
    }

    fn rotation(&self, scope: Vec<String>, audience: Vec<String>, now: UnixMillis) -> Rotated {
        Rotated {
            generation: self.generation,
            refresh_key: self.refresh_key,
            scope,
            audience,
            created: self.created,
            idle_expires: self.idle_expires,
            expires: self.expires,
            now,
        }
    }

    fn evidence(&self, presented: u32, first: bool) -> Evidence {
        Evidence {
            first,
            presented,
            current: self.generation,
            rotated: self.rotated,
            // The successor of generation p is p + 1. It was used if a later generation exists.
            successor_used: self.generation > presented.saturating_add(1),
            expires: self.expires,
        }
    }
}

mod admission;
#[cfg(test)]
mod tests;

pub use admission::{Admission, admit};
