//! The messages and stubs of `proto/countersign/v1` for server and client. `build.rs` generates them.
//!
//! The `Debug` of a message with a secret shows only the fields that are not secret.

pub mod convert;
#[cfg(feature = "server")]
pub mod envoy;

use std::fmt;

#[expect(clippy::pedantic, clippy::allow_attributes_without_reason, reason = "generated")]
#[cfg_attr(feature = "server", expect(clippy::allow_attributes, reason = "generated"))]
mod generated {
    tonic::include_proto!("countersign.v1");
}

pub use generated::*;

/// The encoded file descriptors of `countersign.v1` and its imports, for reflection and for JSON on the command line.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Implements a `Debug` that shows only these fields. A new field stays hidden until it is added here.
macro_rules! debug_showing {
    ($($message:ident { $($field:ident),* })*) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($field), &self.$field))*
                    .finish_non_exhaustive()
            }
        }
    )*};
}

debug_showing! {
    PasswordCredential { username }
    ClientSecretCredential {}
    ExchangeCredential {}
    Tokens {
        token_type, access_expires_at, refresh_after, refresh_expires_at, session_expires_at, session_id, scope,
        audience
    }
    RefreshRequest { audience, scope, context }
    RevokeRequest { target, keep_session_id, reason }
    ValidateRequest { audience, required_scopes, consistency }
    CreateUserRequest { user }
    ChangePasswordRequest { user_id, keep_session_id }
    SetPasswordRequest { user_id }
    BeginPasswordResetResponse { expire_time }
    CompletePasswordResetRequest {}
    ImportUsersRequest { user }
    CreateClientResponse { client }
    RotateClientSecretResponse { old_expire_time }
    WatchRevocationsRequest {}
    Heartbeat { as_of, now }
}

impl fmt::Debug for revoke_request::Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token([redacted])"),
            Self::SessionId(id) => f.debug_tuple("SessionId").field(id).finish(),
            Self::UserId(id) => f.debug_tuple("UserId").field(id).finish(),
            Self::ClientId(id) => f.debug_tuple("ClientId").field(id).finish(),
            Self::Everything(all) => f.debug_tuple("Everything").field(all).finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    const CANARY: &str = "canary-7f3a";

    /// The `Debug` output of a message whose string fields with these numbers hold the canary.
    fn shown<M: Message + Default + fmt::Debug>(fields: &[u8]) -> String {
        let length = u8::try_from(CANARY.len()).unwrap();
        let wire: Vec<u8> = fields
            .iter()
            .flat_map(|number| [&[number << 3 | 2, length], CANARY.as_bytes()].concat())
            .collect();
        let message = M::decode(wire.as_slice()).unwrap();
        assert_eq!(message.encode_to_vec(), wire, "the fields exist");
        format!("{message:?}\n")
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let shown = [
            shown::<PasswordCredential>(&[2]),
            shown::<ClientSecretCredential>(&[1]),
            shown::<ExchangeCredential>(&[1, 2]),
            shown::<Tokens>(&[1, 5]),
            shown::<RefreshRequest>(&[1, 4]),
            shown::<RevokeRequest>(&[1]),
            shown::<ValidateRequest>(&[1]),
            shown::<CreateUserRequest>(&[2]),
            shown::<ChangePasswordRequest>(&[2, 3]),
            shown::<SetPasswordRequest>(&[2]),
            shown::<BeginPasswordResetResponse>(&[1]),
            shown::<CompletePasswordResetRequest>(&[1, 2]),
            shown::<ImportUsersRequest>(&[2]),
            shown::<CreateClientResponse>(&[2]),
            shown::<RotateClientSecretResponse>(&[1]),
            shown::<WatchRevocationsRequest>(&[1]),
            shown::<Heartbeat>(&[2]),
        ]
        .concat();
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(
            self::shown::<PasswordCredential>(&[1]).contains(CANARY),
            "fields that are not secret are shown"
        );
    }

    /// Every message with a string field whose name suggests a secret must have a `Debug` of this module.
    #[test]
    fn no_secret_field_is_forgotten() {
        let set = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let generated = include_str!(concat!(env!("OUT_DIR"), "/countersign.v1.rs"));
        let messages = set
            .file
            .iter()
            .filter(|file| file.package() == "countersign.v1")
            .flat_map(|file| &file.message_type);
        let mut seen = 0;
        for message in messages {
            let is_secret = |name: &str| {
                name.contains("password") && name != "password_change_time"
                    || name.contains("secret")
                    || (name.ends_with("token") && !name.ends_with("page_token"))
            };
            let text = prost_types::field_descriptor_proto::Type::String;
            if message
                .field
                .iter()
                .any(|field| field.r#type() == text && is_secret(field.name()))
            {
                let head = generated
                    .split(&format!("pub struct {} {{", message.name()))
                    .next()
                    .unwrap();
                let attributes = &head[head.rfind("#[derive").unwrap()..];
                assert!(attributes.contains("skip_debug"), "{}", message.name());
                seen += 1;
            }
        }
        assert_eq!(seen, 17);
    }
}
