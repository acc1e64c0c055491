//! Who may call what, and within which limits: one table of every method that is served.
//!
//! A method that is not in the table is not served, whatever the generated code knows; a test walks the descriptors.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::scope::CallerScope;
use crate::model::{Caller, ErrorKind};

/// The largest request, in bytes, unless a row says otherwise.
pub const MAX_REQUEST: usize = 64 * 1024;
/// 256 tokens of 4 KiB, their audiences and scopes.
const MAX_BATCH: usize = 1536 * 1024;
/// A user with attributes, roles and a hash, many times over.
const MAX_IMPORT: usize = 256 * 1024;

/// One method.
#[derive(Debug)]
pub struct Method {
    /// The service's full name, `countersign.v1.TokenService`.
    pub service: &'static str,
    /// The method's name, `Issue`.
    pub name: &'static str,
    /// Both as they stand in a request.
    pub path: &'static str,
    /// Who may call it.
    pub access: Access,
    /// How long it may take.
    pub time_limit: TimeLimit,
    /// The largest message that it takes, in bytes; the transport answers a larger one with `OUT_OF_RANGE`.
    pub max_request: usize,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anybody.
    Anyone,
    /// Who holds this scope.
    Scope(CallerScope),
    /// Who holds this scope, and a person on their own account; whose it is, the rule checks.
    ScopeOrOwn(CallerScope),
    /// It depends on what is asked for: the rule decides.
    Rule,
    /// As [`Access::Rule`], and what is asked with may be an identity of its own: a caller whose token is no good any more
    /// must be able to come by a new one, and is then nobody, without even the scopes of nobody.
    RuleOrCredential,
}

impl Access {
    /// Whether `caller` may, as far as can be told before the request is read.
    ///
    /// # Errors
    /// `CALLER_UNAUTHENTICATED` for somebody who proved nothing, else `CALLER_NOT_ALLOWED`.
    pub fn check(self, caller: &Caller) -> Result<(), ErrorKind> {
        let may = match self {
            Self::Anyone | Self::Rule | Self::RuleOrCredential => true,
            Self::Scope(scope) => caller.has(scope),
            Self::ScopeOrOwn(scope) => caller.has(scope) || caller.person().is_some(),
        };
        if may { Ok(()) } else { Err(caller.refusal()) }
    }
}

/// How long a method may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// As long as the caller waits, within the configured bounds.
    Deadline,
    /// As long as it goes on: neither side may be silent for longer than this.
    Idle(Duration),
}

/// What is served only where it is wanted.
#[derive(Clone, Copy, Debug)]
pub struct OptionalServices {
    /// Reflection.
    pub reflection: bool,
    /// Envoy's external authorization.
    pub ext_authz: bool,
}

impl OptionalServices {
    fn wants(self, service: &str) -> bool {
        match service.split('.').next_back() {
            Some("ServerReflection") => self.reflection,
            Some("Authorization") => self.ext_authz,
            Some(_) | None => true,
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Policy {
    methods: HashMap<&'static str, usize>,
}

impl Policy {
    /// Every method that is served; of the extras, those that are wanted.
    #[must_use]
    pub fn new(optional: OptionalServices) -> Self {
        Self::serving(|method| optional.wants(method.service))
    }

    /// The methods that this picks.
    #[must_use]
    pub fn serving(served: impl Fn(&Method) -> bool) -> Self {
        let methods = METHODS.iter().enumerate().filter(|(_, method)| served(method));
        Self {
            methods: methods.map(|(index, method)| (method.path, index)).collect(),
        }
    }

    /// The method of this path and its place in [`METHODS`], if it is served.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<(usize, &'static Method)> {
        let index = *self.methods.get(path)?;
        Some((index, &METHODS[index]))
    }
}

macro_rules! methods {
    ($($service:literal { $($name:literal: $access:expr $(, $setting:ident = $value:expr)*;)* })*) => {
        /// Every method, of every service.
        pub static METHODS: &[Method] = &[$($(
            Method {
                $($setting: $value,)*
                ..method($service, $name, concat!("/", $service, "/", $name), $access)
            },
        )*)*];
    };
}

const fn method(service: &'static str, name: &'static str, path: &'static str, access: Access) -> Method {
    Method {
        service,
        name,
        path,
        access,
        time_limit: TimeLimit::Deadline,
        max_request: MAX_REQUEST,
    }
}

use Access::{Anyone, Rule, RuleOrCredential, Scope, ScopeOrOwn};
use CallerScope::{Audit, Clients, Keys, Refresh, Users, Validate, Watch};

/// The next user of an import must come within this.
const IMPORT_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_secs(30));
/// A heartbeat goes out each second: silence means that something is broken.
const WATCH_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_secs(30));
/// Health rarely changes; this is longer than any connection lives, which is the limit that counts.
const HEALTH_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_hours(1));
/// Somebody at a terminal.
const REFLECTION_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_mins(1));

methods! {
    "countersign.v1.TokenService" {
        // With a password `countersign:issue`, or a client for itself; else the credential is the identity.
        "Issue": RuleOrCredential;
        "Refresh": Scope(Refresh);
        // `countersign:revoke`; `everything` needs `countersign:keys`; people end their own sessions.
        "Revoke": Rule;
        "Validate": Scope(Validate);
        "ValidateBatch": Scope(Validate), max_request = MAX_BATCH;
        "WatchRevocations": Scope(Watch), time_limit = WATCH_IDLE;
        "GetKeys": Anyone;
    }
    "countersign.v1.UserService" {
        // `countersign:users`, or anybody where registration is open.
        "CreateUser": Rule;
        "GetUser": ScopeOrOwn(Users);
        "ListUsers": Scope(Users);
        "UpdateUser": Scope(Users);
        "DeleteUser": Scope(Users);
        "DisableUser": Scope(Users);
        "EnableUser": Scope(Users);
        "ChangePassword": ScopeOrOwn(Users);
        "SetPassword": Scope(Users);
        "BeginPasswordReset": Scope(Users);
        // The one-time token is the right.
        "CompletePasswordReset": Anyone;
        "ListSessions": ScopeOrOwn(Users);
        "ImportUsers": Scope(Users), time_limit = IMPORT_IDLE, max_request = MAX_IMPORT;
    }
    "countersign.v1.ClientService" {
        "CreateClient": Scope(Clients);
        "GetClient": Scope(Clients);
        "ListClients": Scope(Clients);
        "UpdateClient": Scope(Clients);
        "DeleteClient": Scope(Clients);
        "RotateClientSecret": Scope(Clients);
    }
    "countersign.v1.KeyService" {
        "ListKeys": Scope(Keys);
        "RotateKey": Scope(Keys);
        "RevokeKey": Scope(Keys);
    }
    "countersign.v1.AuditService" {
        "ListAuditEvents": Scope(Audit);
    }
    "envoy.service.auth.v3.Authorization" {
        // Renewing cookies needs `countersign:refresh` too.
        "Check": Scope(Validate);
    }
    "grpc.health.v1.Health" {
        "Check": Anyone;
        "Watch": Anyone, time_limit = HEALTH_IDLE;
    }
    "grpc.reflection.v1.ServerReflection" {
        "ServerReflectionInfo": Anyone, time_limit = REFLECTION_IDLE;
    }
    "grpc.reflection.v1alpha.ServerReflection" {
        "ServerReflectionInfo": Anyone, time_limit = REFLECTION_IDLE;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::model::Identity;
    use crate::model::audit::Origin;

    #[test]
    fn the_table_is_the_descriptors_and_nothing_else() {
        let sets = [
            crate::proto::FILE_DESCRIPTOR_SET,
            crate::proto::envoy::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut described = BTreeSet::new();
        for set in sets {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        let streams = method.client_streaming() || method.server_streaming();
                        described.insert((path, streams));
                    }
                }
            }
        }
        let streams = |method: &Method| matches!(method.time_limit, TimeLimit::Idle(_));
        let listed: BTreeSet<_> = METHODS
            .iter()
            .map(|method| (method.path.to_owned(), streams(method)))
            .collect();
        assert_eq!(listed, described);
        assert_eq!(listed.len(), METHODS.len(), "no method twice");
    }

    #[test]
    fn every_scope_is_one_of_the_contract() {
        const SCOPES: [&str; 9] = [
            "countersign:issue",
            "countersign:refresh",
            "countersign:revoke",
            "countersign:validate",
            "countersign:watch",
            "countersign:users",
            "countersign:clients",
            "countersign:keys",
            "countersign:audit",
        ];
        for method in METHODS {
            match method.access {
                Access::Scope(scope) | Access::ScopeOrOwn(scope) => {
                    assert!(SCOPES.contains(&scope.as_str()), "{}", method.path);
                }
                Access::Anyone | Access::Rule | Access::RuleOrCredential => {}
            }
        }
    }

    #[test]
    fn extras_are_served_only_when_they_are_wanted() {
        let served = |path: &str, reflection, ext_authz| {
            let optional = OptionalServices { reflection, ext_authz };
            Policy::new(optional).method(path).is_some()
        };
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        assert!(served(path, true, false) && !served(path, false, true));
        let path = "/envoy.service.auth.v3.Authorization/Check";
        assert!(served(path, false, true) && !served(path, true, false));
        assert!(served("/countersign.v1.TokenService/Validate", false, false));
        assert!(!served("/countersign.v1.TokenService/Forge", true, true));
    }

    #[test]
    fn a_missing_scope_tells_the_known_from_the_unknown() {
        let machine = |scopes: &[&str]| Caller {
            identity: Identity::Machine {
                client: "gateway".parse().unwrap(),
            },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
        };
        let nobody = Caller {
            identity: Identity::Anonymous,
            ..machine(&["countersign:validate"])
        };
        let person = Caller {
            identity: Identity::Person {
                user: uuid::Uuid::nil().to_string().parse().unwrap(),
                session: uuid::Uuid::nil().to_string().parse().unwrap(),
                admin: false,
            },
            ..machine(&[])
        };
        let validate = Scope(Validate);
        assert_eq!(validate.check(&nobody), Ok(()), "anonymous scopes count");
        assert_eq!(validate.check(&machine(&[])), Err(ErrorKind::CallerNotAllowed));
        let users = Scope(Users);
        assert_eq!(users.check(&nobody), Err(ErrorKind::CallerUnauthenticated));
        assert_eq!(users.check(&person), Err(ErrorKind::CallerNotAllowed));
        assert_eq!(ScopeOrOwn(Users).check(&person), Ok(()));
        assert_eq!(
            ScopeOrOwn(Users).check(&machine(&[])),
            Err(ErrorKind::CallerNotAllowed),
            "a machine has no account"
        );
        assert_eq!(Anyone.check(&nobody), Ok(()));
    }
}
