//! The options of `client add` and `client update` that set the fields of a client.

use std::time::Duration;

use crate::account::ClientDraft;
use crate::config::parse_duration;
use crate::model::{Grant, ReusePolicy};

#[derive(clap::Args)]
pub(in crate::cli) struct Fields {
    /// A grant that it may use: password, `client_secret` or exchange; repeatable.
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant)]
    grants: Vec<Grant>,

    /// A scope that its tokens may have, `*` for every scope except `countersign:*`; repeatable.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,

    /// An audience that its tokens may have, `*` for every audience; repeatable.
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audiences: Vec<String>,

    /// A display name.
    #[arg(long, value_name = "TEXT")]
    display_name: Option<String>,

    /// The lifetime of its access tokens, for instance 15m.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    access_token_ttl: Option<Duration>,

    /// How long a session may go without a refresh.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    refresh_idle_ttl: Option<Duration>,

    /// The longest duration of a session.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    session_ttl: Option<Duration>,

    /// How long a used refresh token is accepted again, for retries.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    refresh_grace: Option<Duration>,

    /// Which retries are accepted: strict (only with the same attempt id) or tolerant (all).
    #[arg(long, value_name = "POLICY", value_parser = reuse_policy)]
    reuse_policy: Option<ReusePolicy>,

    /// The most live sessions of one user at this client.
    #[arg(long, value_name = "COUNT")]
    max_sessions_per_user: Option<u32>,
}

impl Fields {
    /// The client with these fields, and the update mask of the options that were given.
    pub(super) fn draft(self, client_id: String) -> (ClientDraft, Vec<String>) {
        let given = [
            ("grants", !self.grants.is_empty()),
            ("scopes", !self.scopes.is_empty()),
            ("audiences", !self.audiences.is_empty()),
            ("display_name", self.display_name.is_some()),
            ("access_token_ttl", self.access_token_ttl.is_some()),
            ("refresh_idle_ttl", self.refresh_idle_ttl.is_some()),
            ("session_ttl", self.session_ttl.is_some()),
            ("refresh_grace", self.refresh_grace.is_some()),
            ("reuse_policy", self.reuse_policy.is_some()),
            ("max_sessions_per_user", self.max_sessions_per_user.is_some()),
        ];
        let mask = given
            .into_iter()
            .filter(|(_, given)| *given)
            .map(|(name, _)| name.to_owned())
            .collect();
        let draft = ClientDraft {
            client_id,
            display_name: self.display_name.unwrap_or_default(),
            grants: self.grants,
            audiences: self.audiences,
            scopes: self.scopes,
            access_token_ttl: self.access_token_ttl,
            refresh_idle_ttl: self.refresh_idle_ttl,
            session_ttl: self.session_ttl,
            refresh_grace: self.refresh_grace,
            reuse_policy: self.reuse_policy,
            max_sessions_per_user: self.max_sessions_per_user.unwrap_or(0),
            disabled: false,
        };
        (draft, mask)
    }
}

fn grant(text: &str) -> Result<Grant, String> {
    Grant::named(text).ok_or_else(|| format!("must be one of {}", Grant::ALL.map(Grant::as_str).join(", ")))
}

fn reuse_policy(text: &str) -> Result<ReusePolicy, String> {
    ReusePolicy::named(text).ok_or_else(|| "must be strict or tolerant".to_owned())
}
