//! What follows the rotation of a refresh token, beside the new tokens: metrics, the reaction to reuse, errors.

use std::sync::Arc;

use super::access_token::too_large;
use super::audit::AuditWriter;
use super::refresh_token::RefreshToken;
use super::revocation_recorder::RevocationRecorder;
use crate::clock::Clock;
use crate::model::audit::Outcome;
use crate::model::session::{Evidence, Presented, Refusal};
use crate::model::{AuditType, Caller, Error, ErrorKind, Rotation};

/// Reacts to refresh tokens that were used twice, and to rotations that the store of sessions lost.
pub struct ReuseHandler {
    /// Records the end of the session.
    pub recorder: Arc<RevocationRecorder>,
    /// The audit trail.
    pub audit: AuditWriter,
    /// For the time since the rotation.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for ReuseHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReuseHandler")
    }
}

impl ReuseHandler {
    /// Makes the end of a session whose token was used twice durable, and returns the answer. The store of sessions has a
    /// tombstone in its place by now; the task goes on if the call is cancelled, and each later use of the token does the
    /// same again.
    pub(super) async fn end_reused(&self, caller: &Caller, token: &RefreshToken, evidence: Evidence) -> Error {
        let explanation = if evidence.successor_used {
            "stolen"
        } else {
            "stolen_or_reply_lost"
        };
        let event = self
            .audit
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
            .with_detail("explanation", explanation);
        let recorded = self
            .recorder
            .record_session_end(token.session, evidence.expires, &event)
            .await;
        match recorded {
            Ok(recorded) if recorded.new || evidence.first => {
                tracing::warn!(
                    request_id = event.origin.request_id,
                    session = %token.session,
                    user = %token.user,
                    explanation,
                    "a refresh token was used twice; its session is revoked"
                );
                ErrorKind::RefreshTokenReused.into()
            }
            Ok(_) => ErrorKind::SessionRevoked.into(),
            Err(error) => error,
        }
    }

    /// Reports that the store of sessions had lost rotations: the presented token was newer than the record.
    pub(super) async fn report_lost_rotations(&self, caller: &Caller, token: &RefreshToken, lost: u32) {
        let event = self
            .audit
            .event(AuditType::TokenRefreshFastForwarded, &token.user, caller)
            .with_client(&token.client)
            .with_session(token.session)
            .with_detail("lost_rotations", lost);
        let request_id = &event.origin.request_id;
        tracing::warn!(request_id, session = %token.session, lost, "the store of sessions lost rotations of a session");
        self.audit.append_best_effort(&event).await;
    }
}

/// Counts rotations by their result. The label is `verdict`.
pub(super) fn count_rotation(rotation: &Rotation) {
    let name = match rotation {
        Rotation::Rotated(_) => "rotated",
        Rotation::Replayed(_) => "replayed",
        Rotation::FastForwarded { .. } => "fast_forwarded",
        Rotation::Reused(evidence) if evidence.successor_used => "reused",
        Rotation::Reused(_) => "reused_successor_unused",
        Rotation::Refused(_) => "refused",
        Rotation::Late => "late",
        Rotation::Expired => "expired",
        Rotation::Unknown => "unknown",
        Rotation::TooFarAhead => "too_far_ahead",
    };
    metrics::counter!("countersign_refresh_verdicts_total", "verdict" => name).increment(1);
}

/// The error for a refused request, with the field that is at fault.
pub(super) fn refusal_error(refusal: &Refusal, presented: &Presented) -> Error {
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
