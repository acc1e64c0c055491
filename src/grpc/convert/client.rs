//! Clients as messages.

use std::time::Duration;

use crate::account::ClientDraft;
use crate::model::{Client, Error, Grant, Result, ReusePolicy};
use crate::proto;
use crate::proto::convert::time::{duration, span, timestamp};

/// Converts a client.
#[must_use]
pub fn client(client: Client) -> proto::Client {
    let policy = client
        .reuse_policy
        .map_or(proto::ReusePolicy::Unspecified, |policy| match policy {
            ReusePolicy::Strict => proto::ReusePolicy::Strict,
            ReusePolicy::Tolerant => proto::ReusePolicy::Tolerant,
        });
    proto::Client {
        client_id: client.id.to_string(),
        display_name: client.display_name,
        grants: client
            .grants
            .into_iter()
            .map(|grant| wire_grant(grant).into())
            .collect(),
        audiences: client.audiences,
        scopes: client.scopes,
        access_token_ttl: client.access_token_ttl.map(duration),
        refresh_idle_ttl: client.refresh_idle_ttl.map(duration),
        session_ttl: client.session_ttl.map(duration),
        refresh_grace: client.refresh_grace.map(duration),
        reuse_policy: policy.into(),
        disabled: client.disabled,
        create_time: Some(timestamp(client.created)),
        update_time: Some(timestamp(client.updated)),
        max_sessions_per_user: client.max_sessions_per_user,
    }
}

/// The fields of a client that a caller may set.
pub fn client_draft(message: proto::Client) -> Result<ClientDraft> {
    let grants = message.grants.iter().enumerate();
    Ok(ClientDraft {
        grants: grants
            .map(|(index, grant)| model_grant(index, *grant))
            .collect::<Result<_>>()?,
        access_token_ttl: optional_duration(message.access_token_ttl, "client.access_token_ttl")?,
        refresh_idle_ttl: optional_duration(message.refresh_idle_ttl, "client.refresh_idle_ttl")?,
        session_ttl: optional_duration(message.session_ttl, "client.session_ttl")?,
        refresh_grace: optional_duration(message.refresh_grace, "client.refresh_grace")?,
        reuse_policy: model_policy(message.reuse_policy)?,
        client_id: message.client_id,
        display_name: message.display_name,
        audiences: message.audiences,
        scopes: message.scopes,
        max_sessions_per_user: message.max_sessions_per_user,
        disabled: message.disabled,
    })
}

/// Converts an optional duration; `field` is named in the error. `None` stands for the value of the configuration.
pub fn optional_duration(duration: Option<prost_types::Duration>, field: &'static str) -> Result<Option<Duration>> {
    duration.map(|duration| span(&duration, field)).transpose()
}

fn wire_grant(grant: Grant) -> proto::Grant {
    match grant {
        Grant::Password => proto::Grant::Password,
        Grant::ClientSecret => proto::Grant::ClientSecret,
        Grant::Exchange => proto::Grant::Exchange,
    }
}

fn model_grant(index: usize, grant: i32) -> Result<Grant> {
    match proto::Grant::try_from(grant) {
        Ok(proto::Grant::Password) => Ok(Grant::Password),
        Ok(proto::Grant::ClientSecret) => Ok(Grant::ClientSecret),
        Ok(proto::Grant::Exchange) => Ok(Grant::Exchange),
        Ok(proto::Grant::Unspecified) | Err(_) => Err(Error::invalid(
            format!("client.grants[{index}]"),
            "must be a known grant",
        )),
    }
}

/// `None` stands for the policy of the configuration.
fn model_policy(policy: i32) -> Result<Option<ReusePolicy>> {
    match proto::ReusePolicy::try_from(policy) {
        Ok(proto::ReusePolicy::Unspecified) => Ok(None),
        Ok(proto::ReusePolicy::Strict) => Ok(Some(ReusePolicy::Strict)),
        Ok(proto::ReusePolicy::Tolerant) => Ok(Some(ReusePolicy::Tolerant)),
        Err(_) => Err(Error::invalid("client.reuse_policy", "must be a known policy")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_survives_the_conversion_to_a_message_and_back() {
        let draft = ClientDraft {
            client_id: "web".into(),
            grants: Grant::ALL.to_vec(),
            scopes: vec!["*".into()],
            session_ttl: Some(Duration::from_hours(1)),
            refresh_grace: Some(Duration::ZERO),
            reuse_policy: Some(ReusePolicy::Tolerant),
            max_sessions_per_user: 3,
            ..ClientDraft::default()
        };
        let stored = draft.check(crate::clock::UnixMillis(7)).unwrap();
        let back = client_draft(client(stored.clone())).unwrap();
        assert_eq!(back.check(crate::clock::UnixMillis(7)).unwrap(), stored);
    }

    #[test]
    fn errors_name_the_invalid_field() {
        let refused = |message: proto::Client| client_draft(message).unwrap_err().violations[0].field.clone();
        let blank = proto::Client::default;
        assert_eq!(
            refused(proto::Client {
                grants: vec![1, 0],
                ..blank()
            }),
            "client.grants[1]"
        );
        assert_eq!(
            refused(proto::Client {
                grants: vec![99],
                ..blank()
            }),
            "client.grants[0]"
        );
        assert_eq!(
            refused(proto::Client {
                reuse_policy: 9,
                ..blank()
            }),
            "client.reuse_policy"
        );
        let negative = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        assert_eq!(
            refused(proto::Client {
                session_ttl: negative,
                ..blank()
            }),
            "client.session_ttl"
        );
    }
}
