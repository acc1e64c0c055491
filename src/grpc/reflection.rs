//! Reflection: the shapes of everything that is served, for tools like grpcurl.

use tonic_reflection::server::{Builder, Error};
use tonic_reflection::server::{v1, v1alpha};

/// The descriptors: of ours, of health, and of `google.rpc`'s details, without which tools cannot print errors.
fn shapes() -> Builder<'static> {
    Builder::configure()
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
pub fn current() -> Result<v1::ServerReflectionServer<impl v1::ServerReflection>, Error> {
    shapes().build_v1()
}

/// The one before, which many tools still speak.
///
/// # Errors
/// As [`current`].
pub fn alpha() -> Result<v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>, Error> {
    shapes().build_v1alpha()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_can_be_read() {
        assert!(current().is_ok() && alpha().is_ok());
    }
}
