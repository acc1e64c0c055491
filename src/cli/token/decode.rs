//! `token decode`: prints the contents of a token without verifying it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cli::{Context, Failure};
use crate::proto::convert::time::timestamp;
use crate::secret::SecretText;
use crate::token::refresh_token::RefreshToken;

pub(super) fn run(context: &Context, token: &SecretText) -> Result<(), Failure> {
    let token = token.expose().trim();
    let contents = access_token(token).or_else(|| refresh_token(token)).ok_or_else(|| {
        Failure::other("not a complete access token (three parts of base64url) or refresh token (csr_...)")
    })?;
    context
        .out
        .note("the token was not verified; `countersign token validate` does that");
    context.out.value(&contents)
}

/// The header and claims of a JWT.
fn access_token(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some(json!({"header": read(header)?, "claims": read(claims)?}))
}

/// The contents of a refresh token, without its secret.
fn refresh_token(token: &str) -> Option<Value> {
    let contents = RefreshToken::unverified(token)?;
    Some(json!({
        "userId": contents.user,
        "sessionId": contents.session,
        "clientId": contents.client,
        "generation": contents.generation,
        "epochs": contents.epochs,
        "sessionExpiresAt": timestamp(contents.expires).to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_decoded_and_other_text_is_refused() {
        // The example of RFC 7519 §3.1.
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                     Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let contents = access_token(token).unwrap();
        assert_eq!(
            (&contents["header"]["alg"], &contents["claims"]["iss"]),
            (&json!("HS256"), &json!("joe"))
        );
        for bad in ["", "csr_x", "a.b", "a.b.c", "e30.e30.x.y"] {
            assert!(access_token(bad).is_none() && refresh_token(bad).is_none(), "{bad}");
        }
    }
}
