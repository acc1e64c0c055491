//! What this service is, for those who look for an OAuth 2.0 server: RFC 8414 and `OpenID` Connect Discovery 1.0.

use serde_json::json;

use crate::model::Algorithm;

/// What the metadata documents tell.
#[derive(Clone, Debug)]
pub struct Metadata {
    /// `tokens.issuer`, exactly: the key set is looked for under it.
    pub issuer: String,
}

impl Metadata {
    /// The document of RFC 8414 §2.
    ///
    /// Tokens are issued over gRPC, so there is no endpoint of OAuth's to name; the lists that would otherwise have
    /// defaults say so by being empty.
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

    /// The document of `OpenID` Connect Discovery §3: many verifiers look for the key set there. No ID tokens are
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
