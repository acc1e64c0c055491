//! What follows from what a presented refresh token meant, other than tokens.

use super::Tokens;
use super::mint::too_large;
use super::refresh_token::RefreshToken;
use crate::model::audit::Outcome;
use crate::model::session::{Evidence, Presented, Refusal};
use crate::model::{AuditType, Caller, Error, ErrorKind, Rotation};

impl Tokens {
    /// Makes the end of a session whose token was used twice durable before answering. The record is a tombstone by
    /// now; the task goes on if the call is cancelled, and whoever meets the tombstone later does the same again.
    pub(super) async fn reused(&self, caller: &Caller, token: &RefreshToken, evidence: Evidence) -> Error {
        let explained = if evidence.successor_used {
            "stolen"
        } else {
            "stolen_or_reply_lost"
        };
        let event = self
            .event(AuditType::TokenRefreshReused, &token.user, caller)
            .with_client(&token.client)
            .with_session(token.session)
            .with_outcome(Outcome::Denied)
            .with_detail("presented_generation", evidence.presented)
            .with_detail("current_generation", evidence.current)
            .with_detail(
                "current_since_ms",
                self.clock.now().since(evidence.rotated).as_secs().saturating_mul(1000),
            )
            .with_detail("successor_used", evidence.successor_used)
            .with_detail("explanation", explained);
        match self.record_session_end(token.session, evidence.expires, &event).await {
            Ok(recorded) if recorded.new || evidence.first => {
                tracing::warn!(
                    request_id = event.origin.request_id,
                    session = %token.session,
                    user = %token.user,
                    explained,
                    "a refresh token was used twice"
                );
                ErrorKind::RefreshTokenReused.into()
            }
            Ok(_) => ErrorKind::SessionRevoked.into(),
            Err(error) => error,
        }
    }

    pub(super) async fn fast_forwarded(&self, caller: &Caller, token: &RefreshToken, lost: u32) {
        let event = self
            .event(AuditType::TokenRefreshFastForwarded, &token.user, caller)
            .with_client(&token.client)
            .with_session(token.session)
            .with_detail("lost_rotations", lost);
        let request_id = &event.origin.request_id;
        tracing::warn!(request_id, session = %token.session, lost, "the store of sessions had lost rotations");
        self.audit_best_effort(&event).await;
    }
}

/// Counts what presented refresh tokens meant.
pub(super) fn count_verdict(rotation: &Rotation) {
    let verdict = match rotation {
        Rotation::Rotated(_) => "rotated",
        Rotation::Replayed(_) => "replayed",
        Rotation::FastForwarded { .. } => "fast_forwarded",
        Rotation::Reused(evidence) if evidence.successor_used => "reused",
        Rotation::Reused(_) => "reused_successor_unused",
        Rotation::Refused(_) => "refused",
        Rotation::Expired => "expired",
        Rotation::Unknown => "unknown",
        Rotation::TooFarAhead => "too_far_ahead",
    };
    metrics::counter!("countersign_refresh_verdicts_total", "verdict" => verdict).increment(1);
}

/// Why the request was refused, at the field that is at fault.
pub(super) fn refused(refusal: &Refusal, presented: &Presented) -> Error {
    let at = |field: &'static str, list: &[String], name: &String| {
        list.iter()
            .position(|n| n == name)
            .map_or_else(|| field.to_owned(), |index| format!("{field}[{index}]"))
    };
    match refusal {
        Refusal::WiderScope(name) => Error::at(
            ErrorKind::WiderThanGranted,
            at("scope", &presented.scope, name),
            "was not granted to this session",
        ),
        Refusal::WiderAudience(name) => Error::at(
            ErrorKind::WiderThanGranted,
            at("audience", &presented.audience, name),
            "was not granted to this session",
        ),
        Refusal::LostScope(name) => Error::at(
            ErrorKind::ScopeNotAllowed,
            at("scope", &presented.scope, name),
            "is no longer allowed",
        ),
        Refusal::LostAudience(name) => Error::at(
            ErrorKind::AudienceNotAllowed,
            at("audience", &presented.audience, name),
            "is no longer allowed",
        ),
        Refusal::TooLarge => too_large(),
    }
}
