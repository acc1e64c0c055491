//! The requests and responses of `TokenService`.

use crate::grpc::convert::{context, required};
use crate::model::{Error, Result};
use crate::proto;
use crate::proto::convert::claims::claims;
use crate::proto::convert::time::timestamp;
use crate::secret::SecretText;
use crate::token::{
    ClientSecretRequest, ExchangeRequest, IssuedTokens, PasswordRequest, RefreshRequest, Refreshed, RevokeRequest,
    RevokeTarget, ValidateRequest,
};
use crate::validator::Validation;

/// A request to `Issue`, by its credential.
#[derive(Debug)]
pub enum IssueBy {
    /// A user's name and password.
    Password(PasswordRequest),
    /// A client secret.
    Secret(ClientSecretRequest),
    /// The access token of a subject, for an exchange.
    Exchange(ExchangeRequest),
}

/// Converts a request to `Issue`. `deadline` is a time of the monotonic clock.
pub fn issue(request: proto::IssueRequest, deadline: std::time::Duration) -> Result<IssueBy> {
    use proto::issue_request::Credential;
    let proto::IssueRequest {
        client_id,
        credential,
        audience,
        scope,
        context,
    } = request;
    Ok(match required(credential, "credential")? {
        Credential::Password(proto::PasswordCredential { username, password }) => IssueBy::Password(PasswordRequest {
            client_id,
            username,
            password: password.into(),
            audience,
            scope,
            context: self::context(context),
            deadline,
        }),
        Credential::ClientSecret(proto::ClientSecretCredential { secret }) => IssueBy::Secret(ClientSecretRequest {
            client_id,
            secret: secret.into(),
            audience,
            scope,
        }),
        Credential::Exchange(proto::ExchangeCredential {
            subject_token,
            actor_token,
        }) => IssueBy::Exchange(ExchangeRequest {
            client_id,
            subject_token: subject_token.into(),
            actor_token: actor_token.into(),
            audience,
            scope,
        }),
    })
}

/// Converts issued tokens.
#[must_use]
pub fn tokens(issued: IssuedTokens) -> proto::Tokens {
    let IssuedTokens { access, refresh } = issued;
    let mut tokens = proto::Tokens {
        access_token: access.token.expose().to_owned(),
        token_type: "Bearer".to_owned(),
        access_expires_at: Some(timestamp(access.expires)),
        refresh_after: Some(timestamp(access.refresh_after)),
        scope: access.scope,
        audience: access.audience,
        ..proto::Tokens::default()
    };
    if let Some(refresh) = refresh {
        refresh.token.expose().clone_into(&mut tokens.refresh_token);
        tokens.refresh_expires_at = Some(timestamp(refresh.expires));
        tokens.session_expires_at = Some(timestamp(refresh.session_expires));
        tokens.session_id = refresh.session.to_string();
    }
    tokens
}

/// Converts a request to `Refresh`.
#[must_use]
pub fn refresh(request: proto::RefreshRequest) -> RefreshRequest {
    RefreshRequest {
        refresh_token: request.refresh_token.into(),
        audience: request.audience,
        scope: request.scope,
        attempt_id: request.attempt_id,
        context: context(request.context),
    }
}

/// Converts the result of a refresh.
#[must_use]
pub fn refreshed(refreshed: Refreshed) -> proto::RefreshResponse {
    let outcome = if refreshed.replayed {
        proto::RefreshOutcome::Replayed
    } else {
        proto::RefreshOutcome::Rotated
    };
    proto::RefreshResponse {
        tokens: Some(tokens(refreshed.issued)),
        outcome: outcome.into(),
    }
}

/// Converts a request to `Revoke`.
pub fn revoke(request: proto::RevokeRequest) -> Result<RevokeRequest> {
    use proto::revoke_request::Target;
    let proto::RevokeRequest {
        target,
        keep_session_id: keep,
        reason,
    } = request;
    let target = required(target, "target")?;
    if !keep.is_empty() && !matches!(target, Target::UserId(_)) {
        return Err(Error::invalid("keep_session_id", "is allowed only with user_id"));
    }
    let target = match target {
        Target::Token(token) => RevokeTarget::Token(SecretText::from(token)),
        Target::SessionId(id) => RevokeTarget::Session(id),
        Target::UserId(id) => RevokeTarget::User { id, keep },
        Target::ClientId(id) => RevokeTarget::Client(id),
        Target::Everything(true) => RevokeTarget::Everything,
        Target::Everything(false) => return Err(Error::invalid("everything", "must be true")),
    };
    Ok(RevokeRequest { target, reason })
}

/// Converts a request to `Validate`. `asked` is a time of the monotonic clock.
pub fn validate(request: &proto::ValidateRequest, asked: std::time::Duration) -> Result<ValidateRequest<'_>> {
    let strong = match proto::Consistency::try_from(request.consistency) {
        Ok(proto::Consistency::Unspecified | proto::Consistency::Local) => false,
        Ok(proto::Consistency::Strong) => true,
        Err(_) => return Err(Error::invalid("consistency", "must be a known consistency")),
    };
    Ok(ValidateRequest {
        access_token: &request.access_token,
        audience: &request.audience,
        required_scopes: &request.required_scopes,
        strong,
        asked,
    })
}

/// Converts the result of a validation.
#[must_use]
pub fn validation(validation: &Validation) -> proto::ValidateResponse {
    let answer = proto::ValidateResponse {
        revocations_as_of: Some(timestamp(validation.as_of)),
        cache_until: validation.cache_until.map(timestamp),
        ..proto::ValidateResponse::default()
    };
    match &validation.token {
        Ok(token) => proto::ValidateResponse {
            active: true,
            claims: Some(claims(&token.claims, &token.key_id)),
            ..answer
        },
        Err(reason) => proto::ValidateResponse {
            reason: proto::InactiveReason::from(*reason).into(),
            ..answer
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::revoke_request::Target;

    fn refused(target: Option<Target>, keep: &str) -> String {
        let request = proto::RevokeRequest {
            target,
            keep_session_id: keep.to_owned(),
            reason: String::new(),
        };
        revoke(request).unwrap_err().violations[0].field.to_string()
    }

    #[test]
    fn a_revocation_has_one_target_and_keep_session_id_needs_a_user() {
        assert_eq!(refused(None, ""), "target");
        assert_eq!(refused(Some(Target::Everything(false)), ""), "everything");
        for target in [
            Target::Token("t".into()),
            Target::SessionId("s".into()),
            Target::ClientId("c".into()),
            Target::Everything(true),
        ] {
            assert_eq!(refused(Some(target), "kept"), "keep_session_id");
        }
        let user = proto::RevokeRequest {
            target: Some(Target::UserId("u".into())),
            keep_session_id: "kept".into(),
            reason: "lost phone".into(),
        };
        let request = revoke(user).unwrap();
        assert!(matches!(request.target, RevokeTarget::User { id, keep } if id == "u" && keep == "kept"));
        assert_eq!(request.reason, "lost phone");
    }

    #[test]
    fn issue_needs_a_credential_and_validate_a_known_consistency() {
        let empty = issue(proto::IssueRequest::default(), std::time::Duration::ZERO);
        assert_eq!(empty.unwrap_err().violations[0].field, "credential");
        let of = |consistency| proto::ValidateRequest {
            consistency,
            ..proto::ValidateRequest::default()
        };
        let strong: Vec<bool> = (0..=2)
            .map(|n| validate(&of(n), std::time::Duration::ZERO).unwrap().strong)
            .collect();
        assert_eq!(strong, [false, false, true]);
        assert_eq!(
            validate(&of(3), std::time::Duration::ZERO).unwrap_err().violations[0].field,
            "consistency"
        );
    }
}
