//! The metadata documents of OAuth 2.0 (RFC 8414) and `OpenID` Connect Discovery 1.0.

use serde_json::json;

use crate::model::Algorithm;

/// The contents of the metadata documents.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// The configured `tokens.issuer`, unchanged: verifiers look for the key set under it.
    pub issuer: String,
}

impl Metadata {
    /// The document of RFC 8414 §2.
    ///
    /// Tokens are issued over gRPC, so there is no OAuth endpoint to name. The empty lists replace the defaults of the
    /// RFC.
    pub(super) fn oauth(&self) -> String {
        json!({
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri(),
            "response_types_supported": [],
            "grant_types_supported": [],
            "token_endpoint_auth_methods_supported": [],
        })
        .to_string()
    }

    /// The document of `OpenID` Connect Discovery §3, where many verifiers look for the key set. No ID tokens are
    /// issued; the algorithms are those of access tokens.
    pub(super) fn openid(&self) -> String {
        json!({
            "issuer": self.issuer,
            "jwks_uri": self.jwks_uri(),
            "response_types_supported": [],
            "grant_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": Algorithm::ALL.map(Algorithm::as_str),
        })
        .to_string()
    }

    fn jwks_uri(&self) -> String {
        format!("{}/.well-known/jwks.json", self.issuer.trim_end_matches('/'))
    }
}
