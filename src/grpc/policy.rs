//! The policy table: for every method, the required scope, the time limit and the largest request.
//!
//! A method that is not in the table is not served, even if the generated code has it. A test compares the table with
//! the descriptors of all services.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::scope::CallerScope;
use crate::model::{Caller, Result};

/// Largest request, in bytes, of methods that set no limit of their own.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Largest request of `ValidateBatch`, in bytes: 256 tokens of 4 KiB with their audiences and scopes.
const MAX_BATCH: usize = 1536 * 1024;
/// Largest request of Envoy's `Check`, in bytes: a head of 256 KiB, and the first MiB of the body where Envoy sends it
/// (`with_request_body`), although it is not used.
const MAX_CHECK: usize = 1280 * 1024;
/// Largest request of health and reflection, in bytes: names of services and files. Their callers need no credential.
pub const MAX_PROBE: usize = 1024;
/// Largest message of `ImportUsers`, in bytes: many times one user with attributes, roles and a password hash.
const MAX_IMPORT: usize = 256 * 1024;

/// One row of the table. The rows live as long as the process, so a `&'static Method` names a method.
#[derive(Debug)]
pub struct Method {
    /// Full name of the service, for instance `countersign.v1.TokenService`.
    pub service: &'static str,
    /// Name of the method, for instance `Issue`.
    pub name: &'static str,
    /// Path of the request, for instance `/countersign.v1.TokenService/Issue`.
    pub path: &'static str,
    /// Which callers may call it.
    pub access: Access,
    /// How long a call may take.
    pub time_limit: TimeLimit,
    /// Whether the caller sends a stream of messages; otherwise it sends one.
    pub is_client_stream: bool,
    /// Largest request message, in bytes. The transport refuses a larger one with `OUT_OF_RANGE`.
    pub max_request: usize,
}

/// Which callers may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every caller; credentials are not looked at.
    Anyone,
    /// Callers with this scope.
    Scope(CallerScope),
    /// Callers with this scope, and users for their own account. The service checks that the account is theirs.
    ScopeOrOwn(CallerScope),
    /// It depends on the request: the service decides.
    Rule,
    /// Like [`Access::Rule`], but an invalid bearer token is ignored: the call proceeds as an anonymous caller with no
    /// scopes, so that a client with an expired token can still call `Issue`.
    RuleOrCredential,
}

impl Access {
    /// Checks what can be checked before the request is read.
    ///
    /// # Errors
    /// [`Caller::refusal`] if `caller` may not call the method.
    pub fn check(self, caller: &Caller) -> Result<()> {
        match self {
            Self::Scope(scope) if !caller.has(scope) => Err(caller.refusal(scope)),
            Self::ScopeOrOwn(scope) if !caller.has(scope) && caller.person().is_none() => Err(caller.refusal(scope)),
            Self::Anyone | Self::Rule | Self::RuleOrCredential | Self::Scope(_) | Self::ScopeOrOwn(_) => Ok(()),
        }
    }
}

/// How long a call of a method may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLimit {
    /// Until the caller's deadline, within the configured bounds. For unary methods.
    Deadline,
    /// Without limit, as long as neither side is silent for longer than this. For streams.
    Idle(Duration),
}

/// The services that are served only if the configuration says so.
#[derive(Clone, Copy, Debug)]
pub struct OptionalServices {
    /// Server reflection, both versions.
    pub reflection: bool,
    /// Envoy's external authorization.
    pub ext_authz: bool,
}

impl OptionalServices {
    fn includes(self, service: &str) -> bool {
        match service.split('.').next_back() {
            Some("ServerReflection") => self.reflection,
            Some("Authorization") => self.ext_authz,
            Some(_) | None => true,
        }
    }
}

/// The methods that this process serves.
#[derive(Debug)]
pub struct Policy {
    /// By path.
    methods: HashMap<&'static str, &'static Method>,
}

impl Policy {
    /// Every method, those of the optional services as `optional` says.
    #[must_use]
    pub fn new(optional: OptionalServices) -> Self {
        Self::serving(|method| optional.includes(method.service))
    }

    /// The methods for which `is_served` is true.
    #[must_use]
    pub fn serving(is_served: impl Fn(&Method) -> bool) -> Self {
        let methods = METHODS.iter().filter(|method| is_served(method));
        Self {
            methods: methods.map(|method| (method.path, method)).collect(),
        }
    }

    /// The method with this path, if it is served.
    #[must_use]
    pub fn method(&self, path: &str) -> Option<&'static Method> {
        self.methods.get(path).copied()
    }
}

macro_rules! methods {
    ($($service:literal { $($name:literal: $access:expr $(, $setting:ident = $value:expr)*;)* })*) => {
        /// Every method of every service.
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
        is_client_stream: false,
        max_request: MAX_REQUEST,
    }
}

use Access::{Anyone, Rule, RuleOrCredential, Scope, ScopeOrOwn};
use CallerScope::{Audit, Clients, Keys, Refresh, Users, Validate, Watch};

/// Longest wait for the next user of an import.
const IMPORT_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_secs(30));
/// A heartbeat is sent each second, so this much silence means a broken stream.
const WATCH_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_secs(30));
/// Health changes rarely, so silence is normal. Longer than any connection lives: the age of the connection ends the
/// stream.
const HEALTH_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_hours(1));
/// Reflection serves interactive tools, whose users type.
const REFLECTION_IDLE: TimeLimit = TimeLimit::Idle(Duration::from_mins(1));

methods! {
    "countersign.v1.TokenService" {
        // A login with a password needs `countersign:issue`, or a client's token for that client. The other credentials
        // authenticate the call.
        "Issue": RuleOrCredential;
        "Refresh": Scope(Refresh);
        // `countersign:revoke`; the target `everything` needs `countersign:keys`; users may end their own sessions.
        "Revoke": Rule;
        "Validate": Scope(Validate);
        "ValidateBatch": Scope(Validate), max_request = MAX_BATCH;
        "WatchRevocations": Scope(Watch), time_limit = WATCH_IDLE;
        "GetKeys": Anyone;
    }
    "countersign.v1.UserService" {
        // `countersign:users`, or any caller where registration is open.
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
        // The one-time token authorizes the call.
        "CompletePasswordReset": Anyone;
        "ListSessions": ScopeOrOwn(Users);
        "ImportUsers": Scope(Users), time_limit = IMPORT_IDLE, is_client_stream = true, max_request = MAX_IMPORT;
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
        // Renewal of cookies needs `countersign:refresh` too.
        "Check": Scope(Validate), max_request = MAX_CHECK;
    }
    "grpc.health.v1.Health" {
        "Check": Anyone, max_request = MAX_PROBE;
        "Watch": Anyone, time_limit = HEALTH_IDLE, max_request = MAX_PROBE;
    }
    "grpc.reflection.v1.ServerReflection" {
        "ServerReflectionInfo": Anyone, time_limit = REFLECTION_IDLE, is_client_stream = true, max_request = MAX_PROBE;
    }
    "grpc.reflection.v1alpha.ServerReflection" {
        "ServerReflectionInfo": Anyone, time_limit = REFLECTION_IDLE, is_client_stream = true, max_request = MAX_PROBE;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;

    use super::*;
    use crate::model::audit::Origin;
    use crate::model::{ErrorKind, Identity};

    #[test]
    fn the_table_lists_exactly_the_methods_of_the_descriptors() {
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
                        described.insert((path, streams, method.client_streaming()));
                    }
                }
            }
        }
        let streams = |method: &Method| matches!(method.time_limit, TimeLimit::Idle(_));
        let listed: BTreeSet<_> = METHODS
            .iter()
            .map(|method| (method.path.to_owned(), streams(method), method.is_client_stream))
            .collect();
        assert_eq!(listed, described);
        assert_eq!(listed.len(), METHODS.len(), "a method is listed twice");
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
    fn optional_services_are_served_only_if_configured() {
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
    fn a_missing_scope_is_refused_by_whether_the_caller_is_authenticated() {
        let machine = |scopes: &[&str]| Caller {
            identity: Identity::Machine {
                client: "gateway".parse().unwrap(),
            },
            scopes: scopes.iter().map(ToString::to_string).collect(),
            origin: Origin::default(),
        };
        let anonymous = Caller {
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
        let check = |access: Access, caller: &Caller| {
            let refused = access.check(caller);
            refused.map_err(|error| (error.kind, error.required_scope))
        };
        let not_allowed = |scope| Err((ErrorKind::CallerNotAllowed, Some(scope)));
        let validate = Scope(Validate);
        assert_eq!(check(validate, &anonymous), Ok(()), "anonymous scopes count");
        assert_eq!(check(validate, &machine(&[])), not_allowed(Validate));
        let users = Scope(Users);
        assert_eq!(
            check(users, &anonymous),
            Err((ErrorKind::CallerUnauthenticated, Some(Users)))
        );
        assert_eq!(check(users, &person), not_allowed(Users));
        assert_eq!(check(ScopeOrOwn(Users), &person), Ok(()));
        assert_eq!(
            check(ScopeOrOwn(Users), &machine(&[])),
            not_allowed(Users),
            "a machine has no account"
        );
        assert_eq!(check(Anyone, &anonymous), Ok(()));
    }
}
