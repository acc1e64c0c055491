//! Server reflection: the descriptors of all services, for tools like grpcurl.

use tonic_reflection::server::{Builder, Error};
use tonic_reflection::server::{v1, v1alpha};

use super::policy::OptionalServices;

/// The descriptors of our services, of health, and of the `google.rpc` error details, which tools need to print errors.
fn descriptors(optional: OptionalServices) -> Builder<'static> {
    let builder = Builder::configure();
    let builder = if optional.ext_authz {
        builder.register_encoded_file_descriptor_set(crate::proto::envoy::FILE_DESCRIPTOR_SET)
    } else {
        builder
    };
    builder
        .register_encoded_file_descriptor_set(crate::proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        // Each of the two reflection services would list itself but not the other.
        .include_reflection_service(false)
}

/// The reflection service of the current protocol, `v1`.
///
/// # Errors
/// If the descriptors cannot be read; a test shows that they can.
pub fn current(optional: OptionalServices) -> Result<v1::ServerReflectionServer<impl v1::ServerReflection>, Error> {
    descriptors(optional).build_v1()
}

/// The reflection service of the older protocol, `v1alpha`, which many tools still use.
///
/// # Errors
/// If the descriptors cannot be read; a test shows that they can.
pub fn alpha(
    optional: OptionalServices,
) -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error> {
    descriptors(optional).build_v1alpha()
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
