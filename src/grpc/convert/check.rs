//! Envoy's external authorization: the response.

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost_types::Struct;
use tonic::Code;
use tonic_types::Status;

use super::encoded_answers::EncodedAnswers;
use crate::gateway::{Admitted, Decision, Refusal};
use crate::model::Claims;
use crate::proto::convert::json::to_struct;
use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::proto::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use crate::proto::envoy::r#type::v3::HttpStatus;

/// Converts a decision.
#[must_use]
pub fn check_response(decision: &Decision) -> CheckResponse {
    match decision {
        Decision::Admitted(admitted) => CheckResponse {
            status: Some(rpc_status(Code::Ok)),
            dynamic_metadata: admitted.token().map(|token| metadata(&token.claims)),
            http_response: Some(HttpResponse::OkResponse(ok_response(admitted))),
        },
        Decision::Refused(refusal) => CheckResponse {
            status: Some(rpc_status(match refusal.status() {
                401 | 303 => Code::Unauthenticated,
                _ => Code::PermissionDenied,
            })),
            dynamic_metadata: None,
            http_response: Some(HttpResponse::DeniedResponse(denied_response(refusal))),
        },
    }
}

/// Largest encoded response that is cached, in bytes. The cache's memory estimate assumes responses of usual size, and
/// attributes make some of them long.
const MAX_CACHED_RESPONSE: usize = 4096;

/// Writes the encoded response. If the request goes on unchanged, the response depends on the token alone and is cached
/// with it.
pub fn write(decision: &Decision, out: &mut impl BufMut) {
    let plain_token = match decision {
        Decision::Admitted(admitted) => admitted.plain_token(),
        Decision::Refused(_) => None,
    };
    let Some(cached) = plain_token.and_then(|token| token.extensions.get::<EncodedAnswers>()) else {
        return check_response(decision).encode_raw(out);
    };
    if let Some(bytes) = cached.check_response.get() {
        return out.put_slice(bytes);
    }
    let bytes = Bytes::from(check_response(decision).encode_to_vec());
    out.put_slice(&bytes);
    if bytes.len() <= MAX_CACHED_RESPONSE {
        // Another call may have cached the same bytes in the meantime.
        let _ = cached.check_response.set(bytes);
    }
}

fn ok_response(admitted: &Admitted) -> OkHttpResponse {
    let mut response = OkHttpResponse::default();
    for (name, value) in admitted.identity.all() {
        match value {
            Some(value) => response.headers.push(overwrite(name, value.into_owned())),
            None => response.headers_to_remove.push(name.to_owned()),
        }
    }
    response.headers_to_remove.extend_from_slice(&admitted.lookalikes);
    match admitted.cookie.as_deref() {
        Some("") => response.headers_to_remove.push("cookie".to_owned()),
        Some(rest) => response.headers.push(overwrite("cookie", rest.to_owned())),
        None => {}
    }
    if admitted.strip_authorization {
        response.headers_to_remove.push("authorization".to_owned());
    }
    let cookies = admitted.set_cookies.iter();
    response.response_headers_to_add = cookies.map(|cookie| append("set-cookie", cookie.expose())).collect();
    response
}

fn denied_response(refusal: &Refusal) -> DeniedHttpResponse {
    let mut headers = vec![overwrite("content-type", "application/json".to_owned())];
    // A request that is refused now may be admitted later.
    headers.push(overwrite("cache-control", "no-store".to_owned()));
    headers.extend(
        refusal
            .challenge()
            .map(|challenge| overwrite("www-authenticate", challenge)),
    );
    headers.extend(
        refusal
            .location()
            .map(|location| overwrite("location", location.to_owned())),
    );
    let cookies = refusal.set_cookies.iter();
    headers.extend(cookies.map(|cookie| append("set-cookie", cookie.expose())));
    DeniedHttpResponse {
        status: Some(HttpStatus {
            code: i32::from(refusal.status()),
        }),
        headers,
        body: refusal.body(),
    }
}

/// The claims, under their names in the token, without the internal epochs.
fn metadata(claims: &Claims) -> Struct {
    let Ok(serde_json::Value::Object(mut claims)) = serde_json::to_value(claims) else {
        return Struct::default();
    };
    claims.remove("epo");
    claims.remove("root");
    let mut actor = claims.get_mut("act");
    while let Some(serde_json::Value::Object(members)) = actor {
        members.remove("epo");
        actor = members.get_mut("act");
    }
    to_struct(&claims)
}

fn rpc_status(code: Code) -> Status {
    Status {
        code: code.into(),
        ..Status::default()
    }
}

/// A header that replaces any with its name.
fn overwrite(name: &str, value: String) -> HeaderValueOption {
    option(name, value, HeaderAppendAction::OverwriteIfExistsOrAdd)
}

/// A header that is added to those with its name.
fn append(name: &str, value: &str) -> HeaderValueOption {
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
