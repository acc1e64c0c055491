//! `token decode`: what a token says, true or not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cli::{Context, Failure};
use crate::proto::convert::time::timestamp;
use crate::secret::SecretText;
use crate::token::refresh_token::RefreshToken;

pub(super) fn run(context: &Context, token: &SecretText) -> Result<(), Failure> {
    let token = token.expose().trim();
    let said = access(token).or_else(|| refresh(token)).ok_or_else(|| {
        Failure::other("neither an access token (three parts of base64url) nor a whole refresh token (csr_...)")
    })?;
    context
        .out
        .note("nobody was asked whether this is true; `countersign token validate` asks");
    context.out.value(&said)
}

/// The parts of a JWT, as they are.
fn access(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some(json!({"header": read(header)?, "claims": read(claims)?}))
}

/// What a refresh token says, except its secret.
fn refresh(token: &str) -> Option<Value> {
    let said = RefreshToken::unproved(token)?;
    Some(json!({
        "user_id": said.user,
        "session_id": said.session,
        "client_id": said.client,
        "generation": said.generation,
        "epochs": said.epochs,
        "session_expires_at": timestamp(said.expires).to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_shown_and_nothing_else_is_one() {
        // RFC 7519 §3.1, the example.
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                     Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let said = access(token).unwrap();
        assert_eq!(
            (&said["header"]["alg"], &said["claims"]["iss"]),
            (&json!("HS256"), &json!("joe"))
        );
        for bad in ["", "csr_x", "a.b", "a.b.c", "e30.e30.x.y"] {
            assert!(access(bad).is_none() && refresh(bad).is_none(), "{bad}");
        }
    }
}
