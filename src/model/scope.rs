//! Caller scopes: the rights on Countersign itself that an access token or a client may carry.

/// Prefix of the caller scopes. `*` in a client's list of scopes never covers a scope with this prefix.
pub const CALLER_SCOPE_PREFIX: &str = "countersign:";

/// Whether `scope` has the prefix of caller scopes; it need not be one that exists.
#[must_use]
pub fn has_caller_prefix(scope: &str) -> bool {
    scope.starts_with(CALLER_SCOPE_PREFIX)
}

/// A right on Countersign itself. The methods that each one allows are in `grpc::policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerScope {
    /// Issue tokens.
    Issue,
    /// Refresh tokens.
    Refresh,
    /// Revoke the sessions and tokens of any user or client.
    Revoke,
    /// Validate access tokens.
    Validate,
    /// Follow the stream of revocations.
    Watch,
    /// Manage users.
    Users,
    /// Manage clients.
    Clients,
    /// Manage signing keys, and revoke everything.
    Keys,
    /// Read the audit trail.
    Audit,
}

impl CallerScope {
    /// Every caller scope.
    pub const ALL: [Self; 9] = [
        Self::Issue,
        Self::Refresh,
        Self::Revoke,
        Self::Validate,
        Self::Watch,
        Self::Users,
        Self::Clients,
        Self::Keys,
        Self::Audit,
    ];

    /// What an anonymous caller may do where the service is embedded and listens on loopback only: enough for a first
    /// try without setting up a client.
    pub const ANONYMOUS_ON_LOOPBACK: [Self; 4] = [Self::Issue, Self::Refresh, Self::Revoke, Self::Validate];

    /// The scope as tokens, clients and the configuration write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "countersign:issue",
            Self::Refresh => "countersign:refresh",
            Self::Revoke => "countersign:revoke",
            Self::Validate => "countersign:validate",
            Self::Watch => "countersign:watch",
            Self::Users => "countersign:users",
            Self::Clients => "countersign:clients",
            Self::Keys => "countersign:keys",
            Self::Audit => "countersign:audit",
        }
    }

    /// The reverse of [`CallerScope::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }

    /// Whether it allows administration. An anonymous caller may not hold such a scope off loopback.
    #[must_use]
    pub const fn is_administrative(self) -> bool {
        match self {
            Self::Issue | Self::Refresh | Self::Revoke | Self::Validate | Self::Watch => false,
            Self::Users | Self::Clients | Self::Keys | Self::Audit => true,
        }
    }

    /// Every caller scope as text, separated by commas: for messages.
    #[must_use]
    pub fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_the_prefix_and_is_parsed_back() {
        for scope in CallerScope::ALL {
            assert!(has_caller_prefix(scope.as_str()));
            assert_eq!(CallerScope::parse(scope.as_str()), Some(scope));
        }
        for other in ["countersign:", "countersign:everything", "issue", "Countersign:issue"] {
            assert_eq!(CallerScope::parse(other), None, "{other}");
        }
    }
}
