//! Envoy's external authorization: what it is told.

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost_types::Struct;
use tonic::Code;
use tonic_types::Status;

use crate::gateway::{Admitted, Decision, IDENTITY, Refusal};
use crate::model::Claims;
use crate::proto::convert::json::to_struct;
use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::proto::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use crate::proto::envoy::r#type::v3::HttpStatus;

/// What Envoy is told.
#[must_use]
pub fn check_response(check_response: &Decision) -> CheckResponse {
    match check_response {
        Decision::Admitted(admitted) => CheckResponse {
            status: Some(said(Code::Ok)),
            dynamic_metadata: Some(metadata(&admitted.known.claims)),
            http_response: Some(HttpResponse::OkResponse(pass(admitted))),
        },
        Decision::Refused(refusal) => CheckResponse {
            status: Some(said(match refusal.status() {
                401 => Code::Unauthenticated,
                _ => Code::PermissionDenied,
            })),
            dynamic_metadata: None,
            http_response: Some(HttpResponse::DeniedResponse(deny(refusal))),
        },
    }
}

/// The longest answer that is kept: the cache counts with what is usual, and attributes may be long as they are told here.
const MAX_CACHED_RESPONSE: usize = 4096;

/// Writes what Envoy is told. Where a request goes on as it came, that depends on the token alone: it is kept with it.
pub fn write(check_response: &Decision, out: &mut impl BufMut) {
    match check_response {
        Decision::Admitted(admitted) if admitted.is_plain() => {
            let kept = &admitted.known.passed;
            if let Some(bytes) = kept.get() {
                return out.put_slice(bytes);
            }
            let bytes = Bytes::from(self::check_response(check_response).encode_to_vec());
            out.put_slice(&bytes);
            if bytes.len() <= MAX_CACHED_RESPONSE {
                // Somebody else may have put the same there meanwhile.
                let _ = kept.set(bytes);
            }
        }
        Decision::Admitted(_) | Decision::Refused(_) => self::check_response(check_response).encode_raw(out),
    }
}

fn pass(admitted: &Admitted) -> OkHttpResponse {
    let mut answer = OkHttpResponse::default();
    for (name, value) in IDENTITY.into_iter().zip(admitted.identity()) {
        match value {
            Some(value) => answer.headers.push(set(name, value.into_owned())),
            None => answer.headers_to_remove.push(name.to_owned()),
        }
    }
    answer.headers_to_remove.extend_from_slice(&admitted.lookalikes);
    match admitted.cookie.as_deref() {
        Some("") => answer.headers_to_remove.push("cookie".to_owned()),
        Some(rest) => answer.headers.push(set("cookie", rest.to_owned())),
        None => {}
    }
    if admitted.strip_authorization {
        answer.headers_to_remove.push("authorization".to_owned());
    }
    let cookies = admitted.set_cookies.iter();
    answer.response_headers_to_add = cookies.map(|cookie| add("set-cookie", cookie.expose())).collect();
    answer
}

fn deny(refusal: &Refusal) -> DeniedHttpResponse {
    let mut headers = vec![set("content-type", "application/json".to_owned())];
    // What is refused today may pass tomorrow.
    headers.push(set("cache-control", "no-store".to_owned()));
    headers.extend(refusal.challenge().map(|challenge| set("www-authenticate", challenge)));
    let cookies = refusal.set_cookies.iter();
    headers.extend(cookies.map(|cookie| add("set-cookie", cookie.expose())));
    DeniedHttpResponse {
        status: Some(HttpStatus {
            code: i32::from(refusal.status()),
        }),
        headers,
        body: refusal.body(),
    }
}

/// The claims, by their names in the token. The epochs are nobody's business.
fn metadata(claims: &Claims) -> Struct {
    let Ok(serde_json::Value::Object(mut claims)) = serde_json::to_value(claims) else {
        return Struct::default();
    };
    claims.remove("epo");
    claims.remove("root");
    let mut link = claims.get_mut("act");
    while let Some(serde_json::Value::Object(actor)) = link {
        actor.remove("epo");
        link = actor.get_mut("act");
    }
    to_struct(&claims)
}

fn said(code: Code) -> Status {
    Status {
        code: code.into(),
        ..Status::default()
    }
}

/// Replaces whatever there is.
fn set(name: &str, value: String) -> HeaderValueOption {
    option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
}

/// Leaves what there is.
fn add(name: &str, value: &str) -> HeaderValueOption {
    option(name, value.to_owned(), HeaderAppendAction::AppendIfExistsOrAdd)
}

fn option(name: &str, value: String, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: name.to_owned(),
            value,
            raw_value: Vec::new(),
        }),
        append_action: action.into(),
    }
}
