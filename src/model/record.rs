//! The session record, and what a presented refresh token makes of it: the table of the session machine, free of any
//! store.
//!
//! The `SQLite` store runs these functions inside its transaction, the Lua scripts of the Redis store do the same in
//! their own words, and the conformance cases hold the two together.

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

/// A session as its store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its id.
    pub id: SessionId,
    /// Whose.
    pub user: UserId,
    /// At which client.
    pub client: ClientId,
    /// SHA-256 of the session secret.
    pub secret_hash: [u8; 32],
    /// The era it was made in; in another one it is absent.
    pub era: i64,
    /// The generation that is current.
    pub generation: u32,
    /// The refresh key that tagged it.
    pub refresh_key: u32,
    /// When it became current; `created` at generation 0.
    pub rotated: UnixMillis,
    /// The attempt that made it.
    pub attempt_id: String,
    /// What was granted.
    pub scope: Vec<String>,
    /// Likewise.
    pub audience: Vec<String>,
    /// When the session began.
    pub created: UnixMillis,
    /// When it ends unless it is refreshed; never after `expires`.
    pub idle_expires: UnixMillis,
    /// When it ends whatever happens.
    pub expires: UnixMillis,
    /// The epochs under which it was made.
    pub epochs: Epochs,
    /// Whether it lives.
    pub state: RecordState,
    /// For people.
    pub context: SessionContext,
}

/// Whether a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It does.
    Live,
    /// It does, and its last rotation made up for lost ones: for one grace the generation before the presented one is
    /// answered too.
    FastForwarded,
    /// A refresh token was used twice.
    Tombstone {
        /// The generation that was presented then.
        presented: u32,
    },
}

/// What becomes of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It stays as it is.
    Same,
    /// It becomes this.
    Become(Box<SessionRecord>),
    /// It is dropped.
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

    /// Whether it can be refreshed or revoked at `now`.
    #[must_use]
    pub fn is_live(&self, now: UnixMillis) -> bool {
        now < self.idle_expires && !matches!(self.state, RecordState::Tombstone { .. })
    }

    /// Whether it has been expired for so long that it counts as absent.
    #[must_use]
    pub fn is_absent(&self, now: UnixMillis) -> bool {
        now >= self.idle_expires.plus(EXPIRED_RECORD_TTL)
    }

    /// As people see it.
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

    /// What `presented` means at `now`, and what becomes of the record.
    #[must_use]
    pub fn present(&self, presented: &Presented, now: UnixMillis) -> (Rotation, Next) {
        let stranger = self.era != presented.era || !same(&self.secret_hash, &presented.secret_hash);
        if stranger || self.is_absent(now) {
            return (Rotation::Unknown, Next::Same);
        }
        if now >= self.idle_expires {
            return (Rotation::Expired, Next::Same);
        }
        if let RecordState::Tombstone { presented } = self.state {
            return (Rotation::Reused(self.evidence(presented, false)), Next::Same);
        }
        let (p, c) = (presented.generation, self.generation);
        if p > c.saturating_add(MAX_FAST_FORWARD) {
            return (Rotation::TooFarAhead, Next::Gone);
        }
        if p < c && !self.replays(presented, now) {
            let tombstone = Self {
                state: RecordState::Tombstone { presented: p },
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

    /// Whether an earlier generation is answered with the current token again.
    fn replays(&self, presented: &Presented, now: UnixMillis) -> bool {
        let steps = self.generation - presented.generation;
        let in_grace = now.since(self.rotated) < presented.grace;
        let same_attempt = presented.policy == ReusePolicy::Tolerant || presented.attempt_id == self.attempt_id;
        let before_the_lost = steps == 2 && self.state == RecordState::FastForwarded;
        in_grace && ((steps == 1 && same_attempt) || before_the_lost)
    }

    fn rotate(&self, presented: &Presented, now: UnixMillis) -> Self {
        let state = if presented.generation == self.generation {
            RecordState::Live
        } else {
            RecordState::FastForwarded
        };
        let newer = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        Self {
            // Four billion rotations of one session: it stays at the last token there can be.
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

    fn narrowed(&self, presented: &Presented) -> Result<(Vec<String>, Vec<String>), Refusal> {
        type Refuse = fn(String) -> Refusal;
        let take = |narrowed: Narrowing, wider: Refuse, lost: Refuse| match narrowed {
            Narrowing::To(names) => Ok(names),
            Narrowing::Wider(name) => Err(wider(name)),
            Narrowing::Lost(name) => Err(lost(name)),
        };
        let scope = narrow(&presented.scope, &self.scope, &presented.allowed_scope);
        let scope = take(scope, Refusal::WiderScope, Refusal::LostScope)?;
        let audience = narrow_audience(
            &presented.audience,
            &self.audience,
            &presented.allowed_audience,
            &presented.own_audience,
            &self.scope,
        );
        let audience = take(audience, Refusal::WiderAudience, Refusal::LostAudience)?;
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
            // The successor of p is p + 1; that was used if there is a later one.
            successor_used: self.generation > presented.saturating_add(1),
            expires: self.expires,
        }
    }
}

#[cfg(test)]
mod tests;
