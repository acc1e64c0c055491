//! The messages of Envoy's external authorization that `proto/envoy` contains, in the modules of their packages.

use std::fmt;

/// The encoded file descriptors of `envoy.service.auth.v3` and its imports, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/envoy.bin"));

/// A package whose code `build.rs` generates.
macro_rules! package {
    ($doc:literal, $name:literal) => {
        #[doc = $doc]
        #[expect(missing_docs, clippy::pedantic, reason = "generated")]
        #[allow(
            unreachable_pub,
            clippy::allow_attributes,
            clippy::allow_attributes_without_reason,
            reason = "generated, and not every package has one"
        )]
        pub mod v3 {
            tonic::include_proto!($name);
        }
    };
}

/// `envoy.service`.
pub mod service {
    /// `envoy.service.auth`.
    pub mod auth {
        package!("`envoy.service.auth.v3`.", "envoy.service.auth.v3");
    }
}

/// `envoy.config`.
pub mod config {
    /// `envoy.config.core`.
    pub mod core {
        package!("`envoy.config.core.v3`.", "envoy.config.core.v3");
    }
}

/// `envoy.type`.
pub mod r#type {
    package!("`envoy.type.v3`.", "envoy.r#type.v3");
}

use config::core::v3::HeaderValue;
use service::auth::v3::attribute_context::HttpRequest;

// `Debug` leaves out headers, which contain cookies and tokens, and paths, whose query may contain secrets.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for HeaderValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderValue")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::config::core::v3::HeaderMap;
    use super::service::auth::v3::{AttributeContext, CheckRequest, attribute_context::Request};
    use super::*;

    #[test]
    fn debug_shows_no_header() {
        let secret = HeaderValue {
            key: "cookie".to_owned(),
            value: "canary-1".to_owned(),
            raw_value: b"canary-2".to_vec(),
        };
        let http = HttpRequest {
            path: "/?canary-3".to_owned(),
            headers: [("cookie".to_owned(), "canary-4".to_owned())].into(),
            header_map: Some(HeaderMap {
                headers: vec![secret.clone()],
            }),
            ..HttpRequest::default()
        };
        let request = CheckRequest {
            attributes: Some(AttributeContext {
                request: Some(Request { http: Some(http) }),
                ..AttributeContext::default()
            }),
        };
        let shown = format!("{request:?} {secret:?}");
        assert!(!shown.contains("canary") && shown.contains("cookie"), "{shown}");
    }
}
