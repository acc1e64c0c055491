//! `token decode`: what a token says, true or not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cli::{Context, Failure};
use crate::secret::SecretText;

pub(super) fn run(context: &Context, token: &SecretText) -> Result<(), Failure> {
    let said = parts(token.expose().trim())
        .ok_or_else(|| Failure::other("not an access token: three parts of base64url, the first two of them JSON"))?;
    context
        .out
        .note("nobody was asked whether this is true; `countersign token validate` asks");
    context.out.value(&said)
}

fn parts(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let read = |part: &str| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
    Some(json!({"header": read(header)?, "claims": read(claims)?}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_is_shown_and_nothing_else_is_one() {
        // RFC 7519 §3.1, the example.
        let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6\
                     Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let said = parts(token).unwrap();
        assert_eq!(
            (&said["header"]["alg"], &said["claims"]["iss"]),
            (&json!("HS256"), &json!("joe"))
        );
        for bad in ["", "csr_x", "a.b", "a.b.c", "e30.e30.x.y"] {
            assert!(parts(bad).is_none(), "{bad}");
        }
    }
}
