//! The types of audit events.

/// The type of an audit event. `as_str` gives the `AuditEvent.type` of the wire: an object, a dot and a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names say it; as_str is the documented form")]
pub enum AuditType {
    TokenIssued,
    TokenIssueFailed,
    TokenExchanged,
    TokenRefreshReused,
    TokenRefreshFastForwarded,
    TokenRevoked,
    SessionRevoked,
    SessionEvicted,
    UserRevoked,
    ClientRevoked,
    KeyRevoked,
    EverythingRevoked,
    SessionsLost,
    RevocationsWrittenBack,
    UserCreated,
    UserUpdated,
    UserDeleted,
    UserDisabled,
    UserEnabled,
    UserImported,
    PasswordChanged,
    PasswordSet,
    PasswordResetBegun,
    PasswordResetCompleted,
    ClientCreated,
    ClientUpdated,
    ClientDeleted,
    ClientSecretRotated,
    KeyCreated,
    KeyActivated,
    KeyRemoved,
    KeyImported,
    KeyResealed,
    Throttled,
}

impl AuditType {
    /// Every type.
    pub const ALL: [Self; 34] = [
        Self::TokenIssued,
        Self::TokenIssueFailed,
        Self::TokenExchanged,
        Self::TokenRefreshReused,
        Self::TokenRefreshFastForwarded,
        Self::TokenRevoked,
        Self::SessionRevoked,
        Self::SessionEvicted,
        Self::UserRevoked,
        Self::ClientRevoked,
        Self::KeyRevoked,
        Self::EverythingRevoked,
        Self::SessionsLost,
        Self::RevocationsWrittenBack,
        Self::UserCreated,
        Self::UserUpdated,
        Self::UserDeleted,
        Self::UserDisabled,
        Self::UserEnabled,
        Self::UserImported,
        Self::PasswordChanged,
        Self::PasswordSet,
        Self::PasswordResetBegun,
        Self::PasswordResetCompleted,
        Self::ClientCreated,
        Self::ClientUpdated,
        Self::ClientDeleted,
        Self::ClientSecretRotated,
        Self::KeyCreated,
        Self::KeyActivated,
        Self::KeyRemoved,
        Self::KeyImported,
        Self::KeyResealed,
        Self::Throttled,
    ];

    /// The type as stored and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TokenIssued => "token.issued",
            Self::TokenIssueFailed => "token.issue.failed",
            Self::TokenExchanged => "token.exchanged",
            Self::TokenRefreshReused => "token.refresh.reused",
            Self::TokenRefreshFastForwarded => "token.refresh.fast_forwarded",
            Self::TokenRevoked => "token.revoked",
            Self::SessionRevoked => "session.revoked",
            Self::SessionEvicted => "session.evicted",
            Self::UserRevoked => "user.sessions_revoked",
            Self::ClientRevoked => "client.sessions_revoked",
            Self::KeyRevoked => "key.revoked",
            Self::EverythingRevoked => "everything.revoked",
            Self::SessionsLost => "sessions.lost",
            Self::RevocationsWrittenBack => "revocations.written_back",
            Self::UserCreated => "user.created",
            Self::UserUpdated => "user.updated",
            Self::UserDeleted => "user.deleted",
            Self::UserDisabled => "user.disabled",
            Self::UserEnabled => "user.enabled",
            Self::UserImported => "user.imported",
            Self::PasswordChanged => "user.password.changed",
            Self::PasswordSet => "user.password.set",
            Self::PasswordResetBegun => "user.password.reset_begun",
            Self::PasswordResetCompleted => "user.password.reset_completed",
            Self::ClientCreated => "client.created",
            Self::ClientUpdated => "client.updated",
            Self::ClientDeleted => "client.deleted",
            Self::ClientSecretRotated => "client.secret_rotated",
            Self::KeyCreated => "key.created",
            Self::KeyActivated => "key.activated",
            Self::KeyRemoved => "key.removed",
            Self::KeyImported => "key.imported",
            Self::KeyResealed => "key.resealed",
            Self::Throttled => "login.throttled",
        }
    }

    /// What the subject of an event of this type is, and what happened. `docs/audit-events.md` is made of this.
    #[must_use]
    pub const fn meaning(self) -> (&'static str, &'static str) {
        match self {
            Self::TokenIssued => (
                "user or client",
                "A user logged in, or a client got its own token. `grant` says which; `count` how many, if the event stands for several",
            ),
            Self::TokenIssueFailed => (
                "user, client, or the pseudonym of an unknown name",
                "A wrong password or client secret. `grant` says which; `count` how many, if the event stands for several",
            ),
            Self::TokenExchanged => (
                "user or client of the exchanged token",
                "A client got a token with which it acts for the subject. `count` says how many, if the event stands for several",
            ),
            Self::TokenRefreshReused => (
                "user",
                "An old refresh token was used after its successor, and the session was ended. `explanation` says which of theft and lost reply is likely",
            ),
            Self::TokenRefreshFastForwarded => (
                "user",
                "A refresh token was newer than the stored session: Redis had lost `lost_rotations` rotations",
            ),
            Self::TokenRevoked => (
                "client, or the subject of an exchanged token",
                "A token without a session was revoked",
            ),
            Self::SessionRevoked => (
                "user; the session, if it was named by its id alone",
                "A session was revoked",
            ),
            Self::SessionEvicted => (
                "user",
                "A session was ended because the user had too many at the client",
            ),
            Self::UserRevoked => ("user", "All sessions of a user were revoked, but the one that was kept"),
            Self::ClientRevoked => ("client", "All sessions and tokens of a client were revoked"),
            Self::KeyRevoked => (
                "signing key",
                "A signing key was revoked, with every token that it signed",
            ),
            Self::EverythingRevoked => ("none", "All sessions and tokens were revoked"),
            Self::SessionsLost => (
                "master of Redis",
                "Redis was restored from an old backup, and every session in it was ended",
            ),
            Self::RevocationsWrittenBack => (
                "`revocations`",
                "The database was replaced by a standby or a backup that lacked revocations, and a replica wrote those back that it knew. \
                 `revocations` says how many; several replicas may do it at once",
            ),
            Self::UserCreated => ("user", "A user was created"),
            Self::UserUpdated => ("user", "A user was changed. `fields` says what"),
            Self::UserDeleted => ("user", "A user was deleted"),
            Self::UserDisabled => ("user", "A user was disabled"),
            Self::UserEnabled => ("user", "A user was enabled again"),
            Self::UserImported => ("user", "A user was imported"),
            Self::PasswordChanged => (
                "user",
                "A user changed the password, or (outcome `denied`) gave a wrong old one",
            ),
            Self::PasswordSet => ("user", "An administrator set a password"),
            Self::PasswordResetBegun => ("user", "A token for a password reset was made"),
            Self::PasswordResetCompleted => ("user", "A password was reset with such a token"),
            Self::ClientCreated => ("client", "A client was created"),
            Self::ClientUpdated => ("client", "A client was changed"),
            Self::ClientDeleted => ("client", "A client was deleted"),
            Self::ClientSecretRotated => ("client", "A client got a new secret"),
            Self::KeyCreated => ("signing or refresh key", "A key was made"),
            Self::KeyActivated => (
                "signing key",
                "A key signs from now on. `retired` is the key that signed before",
            ),
            Self::KeyRemoved => (
                "signing or refresh key",
                "A key was removed: everything that it signed has expired",
            ),
            Self::KeyImported => ("signing key", "A key was imported"),
            Self::KeyResealed => ("keys", "All keys were sealed under the first master key"),
            Self::Throttled => (
                "user, or the pseudonym of a name that was not looked up or found",
                "A login, or a change of a password, was refused by a limit. `count` says how many, if the event stands for several",
            ),
        }
    }
}
