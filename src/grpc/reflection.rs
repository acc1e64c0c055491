//! Reflection: the shapes of everything that is served, for tools like grpcurl.

use tonic_reflection::server::{Builder, Error};
use tonic_reflection::server::{v1, v1alpha};

use super::policy::OptionalServices;

/// The descriptors: of ours, of health, and of `google.rpc`'s details, without which tools cannot print errors.
fn shapes(optional: OptionalServices) -> Builder<'static> {
    let shapes = Builder::configure();
    let shapes = if optional.ext_authz {
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
pub fn current(optional: OptionalServices) -> Result<v1::ServerReflectionServer<impl v1::ServerReflection>, Error> {
    shapes(optional).build_v1()
}

/// The one before, which many tools still speak.
///
/// # Errors
/// As [`current`].
pub fn alpha(
    optional: OptionalServices,
) -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error> {
    shapes(optional).build_v1alpha()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_can_be_read() {
        for ext_authz in [false, true] {
            let optional = OptionalServices {
                reflection: true,
                ext_authz,
            };
            assert!(current(optional).is_ok() && alpha(optional).is_ok());
        }
    }
}
