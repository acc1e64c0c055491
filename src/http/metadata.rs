//! The metadata documents of OAuth 2.0 (RFC 8414) and `OpenID` Connect Discovery 1.0.

use std::sync::Arc;

use serde_json::json;
use url::Url;

use crate::model::Algorithm;

pub(super) const JWKS: &str = "/.well-known/jwks.json";
pub(super) const OAUTH: &str = "/.well-known/oauth-authorization-server";
pub(super) const OPENID: &str = "/.well-known/openid-configuration";

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
        format!("{}{JWKS}", self.issuer.trim_end_matches('/'))
    }

    /// Where clients look for the documents because the issuer has a path.
    pub(super) fn issuer_path(&self) -> IssuerPath {
        let url = Url::parse(&self.issuer).ok();
        let path = url.as_ref().map_or("", |url| url.path().trim_end_matches('/'));
        IssuerPath(path.into())
    }
}

/// The path of the issuer, without a slash at its end; empty for most issuers.
#[derive(Clone, Debug)]
pub(super) struct IssuerPath(Arc<str>);

impl IssuerPath {
    /// The document at `path`, if the path of the issuer is before or after its name.
    ///
    /// RFC 8414 §3.1 puts the issuer's path after the well-known name, and `OpenID` Connect Discovery §4 before it. Clients
    /// try both for both documents. The key set is where `jwks_uri` says.
    pub(super) fn document(&self, path: &str) -> Option<&'static str> {
        if self.0.is_empty() {
            return None;
        }
        let is_before = |name: &&str| path.strip_prefix(&*self.0) == Some(*name);
        let is_after = |name: &&str| path.strip_prefix(*name) == Some(&*self.0);
        [JWKS, OAUTH, OPENID]
            .into_iter()
            .find(|name| is_before(name) || (*name != JWKS && is_after(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(issuer: &str, path: &str) -> Option<&'static str> {
        let issuer = issuer.to_owned();
        Metadata { issuer }.issuer_path().document(path)
    }

    #[test]
    fn the_path_of_the_issuer_stands_before_or_after_the_name_of_a_document() {
        for issuer in ["https://issuer.example/a/b", "https://issuer.example/a/b/"] {
            for (path, expected) in [
                ("/.well-known/oauth-authorization-server/a/b", Some(OAUTH)),
                ("/.well-known/openid-configuration/a/b", Some(OPENID)),
                ("/a/b/.well-known/oauth-authorization-server", Some(OAUTH)),
                ("/a/b/.well-known/openid-configuration", Some(OPENID)),
                ("/a/b/.well-known/jwks.json", Some(JWKS)),
                ("/.well-known/jwks.json/a/b", None),
                ("/.well-known/oauth-authorization-server/a", None),
                ("/.well-known/oauth-authorization-server/a/b/c", None),
                ("/a/.well-known/openid-configuration", None),
                ("/a/b/metrics", None),
                ("/a/b", None),
            ] {
                assert_eq!(document(issuer, path), expected, "{issuer} {path}");
            }
        }
    }

    #[test]
    fn an_issuer_without_a_path_has_no_further_places() {
        for issuer in ["https://issuer.example", "https://issuer.example/", "not a URL"] {
            for path in [JWKS, OAUTH, OPENID, "/", ""] {
                assert_eq!(document(issuer, path), None, "{issuer} {path}");
            }
        }
    }
}
