//! Claims of an access token.

use super::json::to_struct;
use super::time::timestamp_of_secs;
use crate::model::{self, KeyId};
use crate::proto;

/// The claims as a message. There is no reverse, because the message does not contain the epochs.
#[must_use]
pub fn claims(claims: &model::Claims, key: &KeyId) -> proto::Claims {
    proto::Claims {
        issuer: claims.iss.clone(),
        subject: claims.sub.clone(),
        client_id: claims.client_id.to_string(),
        audience: claims.aud.clone(),
        scope: claims.scope.clone(),
        roles: claims.roles.clone(),
        session_id: claims.sid.map(|sid| sid.to_string()).unwrap_or_default(),
        token_id: claims.jti.to_string(),
        issued_at: Some(timestamp_of_secs(claims.iat)),
        expires_at: Some(timestamp_of_secs(claims.exp)),
        auth_time: claims.auth_time.map(timestamp_of_secs),
        key_id: key.to_string(),
        actor: claims.act.as_deref().map(actor),
        extra: extra(claims),
    }
}

/// The attributes, and the name of the user if the token has it.
fn extra(claims: &model::Claims) -> Option<prost_types::Struct> {
    let Some(username) = &claims.preferred_username else {
        return claims.ext.as_ref().map(to_struct);
    };
    let mut extra = claims.ext.clone().unwrap_or_default();
    extra.insert("preferred_username".to_owned(), username.clone().into());
    Some(to_struct(&extra))
}

fn actor(actor: &model::Actor) -> proto::Actor {
    proto::Actor {
        subject: actor.sub.clone(),
        client_id: actor.client_id.to_string(),
        actor: actor.act.as_deref().map(|before| Box::new(self::actor(before))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_claim_is_in_the_message() {
        let source: model::Claims = serde_json::from_value(serde_json::json!({
            "iss": "https://issuer", "sub": "0190b6a8-1111-7000-8000-000000000001", "aud": ["api", "mail"],
            "client_id": "gateway", "iat": 1_700_000_000, "exp": 1_700_000_900,
            "jti": "0190b6a8-1111-7000-8000-000000000002", "scope": "read write",
            "sid": "0190b6a8-1111-7000-8000-000000000003", "auth_time": 1_699_999_999, "roles": ["editor"],
            "epo": {"g": 1, "u": 2, "c": 3, "cid": "web"}, "ext": {"team": "blue"},
            "act": {"sub": "gateway", "client_id": "gateway", "epo": {"g": 1, "u": 0, "c": 1, "cid": "gateway"},
                "act": {"sub": "mailer", "client_id": "mailer", "epo": {"g": 1, "u": 0, "c": 1, "cid": "mailer"}}},
        }))
        .unwrap();
        let key = KeyId::parse(&"k".repeat(43), "key_id").unwrap();
        let message = claims(&source, &key);
        let Some(outer) = &message.actor else {
            panic!("no actor")
        };
        assert_eq!(
            (outer.subject.as_str(), outer.actor.as_ref().unwrap().client_id.as_str()),
            ("gateway", "mailer")
        );
        assert_eq!(message.scope, ["read", "write"]);
        assert_eq!(message.audience, ["api", "mail"]);
        assert_eq!(message.roles, ["editor"]);
        assert_eq!(message.issued_at.unwrap().seconds, 1_700_000_000);
        assert_eq!(message.expires_at.unwrap().seconds, 1_700_000_900);
        assert_eq!(message.auth_time.unwrap().seconds, 1_699_999_999);
        assert_eq!(message.session_id, "0190b6a8-1111-7000-8000-000000000003");
        assert_eq!(message.token_id, "0190b6a8-1111-7000-8000-000000000002");
        assert_eq!(message.key_id, key.as_str());
        assert!(message.extra.unwrap().fields.contains_key("team"));
        let named = model::Claims {
            preferred_username: Some("ada".to_owned()),
            ..source.clone()
        };
        let extra = super::claims(&named, &key).extra.unwrap().fields;
        assert_eq!(extra.keys().collect::<Vec<_>>(), ["preferred_username", "team"]);
        assert_eq!(
            (message.issuer.as_str(), message.client_id.as_str()),
            ("https://issuer", "gateway")
        );
    }
}
