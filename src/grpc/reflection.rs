//! Reflection: the shapes of everything that is served, for tools like grpcurl.

use tonic_reflection::server::{Builder, Error};
use tonic_reflection::server::{v1, v1alpha};

use super::policy::Extras;

/// The descriptors: of ours, of health, and of `google.rpc`'s details, without which tools cannot print errors.
fn shapes(extras: Extras) -> Builder<'static> {
    let shapes = Builder::configure();
    let shapes = if extras.ext_authz {
        shapes.register_encoded_file_descriptor_set(crate::proto::envoy::FILE_DESCRIPTOR_SET)
    } else {
        shapes
    };
    shapes
        .register_encoded_file_descriptor_set(crate::proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        // Each protocol would name itself alone.
        .include_reflection_service(false)
}

/// The current protocol.
///
/// # Errors
/// If the descriptors cannot be read, which a test rules out.
pub fn current(extras: Extras) -> Result<v1::ServerReflectionServer<impl v1::ServerReflection>, Error> {
    shapes(extras).build_v1()
}

/// The one before, which many tools still speak.
///
/// # Errors
/// As [`current`].
pub fn alpha(extras: Extras) -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error> {
    shapes(extras).build_v1alpha()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_can_be_read() {
        for ext_authz in [false, true] {
            let extras = Extras {
                reflection: true,
                ext_authz,
            };
            assert!(current(extras).is_ok() && alpha(extras).is_ok());
        }
    }
}
