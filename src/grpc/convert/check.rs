//! Envoy's external authorization: the request that it asks about, and what it is told.

use std::borrow::Cow;

use bytes::{BufMut, Bytes};
use prost::Message as _;
use prost_types::Struct;
use tonic::Code;
use tonic_types::Status;

use super::required;
use crate::gateway::{Admitted, Asked, Headers, IDENTITY, Refusal, Route, Verdict};
use crate::model::{Claims, Error, Result};
use crate::proto::convert::json::to_struct;
use crate::proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use crate::proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption, address};
use crate::proto::envoy::service::auth::v3::attribute_context::HttpRequest;
use crate::proto::envoy::service::auth::v3::check_response::HttpResponse;
use crate::proto::envoy::service::auth::v3::{
    AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use crate::proto::envoy::r#type::v3::HttpStatus;

/// The request that is asked about, and what its route wants.
pub fn asked(request: &CheckRequest) -> Result<(Asked<'_>, Route<'_>)> {
    let attributes = required(request.attributes.as_ref(), "attributes")?;
    let http = attributes.request.as_ref().and_then(|request| request.http.as_ref());
    let http = required(http, "attributes.request.http")?;
    let route = |key: &str| attributes.context_extensions.get(key).map_or("", String::as_str);
    let streaming = match route("streaming") {
        "" | "false" => false,
        "true" => true,
        _ => {
            let field = "attributes.context_extensions[\"streaming\"]";
            return Err(Error::invalid(field, "must be true or false"));
        }
    };
    let route = Route {
        audience: route("audience"),
        scopes: route("scopes"),
        streaming,
    };
    Ok((Asked::new(&http.method, &http.host, source(attributes), http), route))
}

impl Headers for HttpRequest {
    fn values<'a>(&'a self, name: &str, each: &mut dyn FnMut(Cow<'a, str>)) {
        if let Some(value) = self.headers.get(name) {
            each(Cow::Borrowed(value));
        }
        for header in self.header_map.iter().flat_map(|map| &map.headers) {
            if header.key.eq_ignore_ascii_case(name) {
                each(if header.raw_value.is_empty() {
                    Cow::Borrowed(&header.value)
                } else {
                    String::from_utf8_lossy(&header.raw_value)
                });
            }
        }
    }

    fn names<'a>(&'a self, each: &mut dyn FnMut(&'a str)) {
        for name in self.headers.keys() {
            each(name);
        }
        for header in self.header_map.iter().flat_map(|map| &map.headers) {
            each(&header.key);
        }
    }
}

/// What Envoy is told.
#[must_use]
pub fn verdict(verdict: &Verdict) -> CheckResponse {
    match verdict {
        Verdict::Admitted(admitted) => CheckResponse {
            status: Some(said(Code::Ok)),
            dynamic_metadata: Some(metadata(&admitted.known.claims)),
            http_response: Some(HttpResponse::OkResponse(pass(admitted))),
        },
        Verdict::Refused(refusal) => CheckResponse {
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
const MOST_KEPT: usize = 4096;

/// Writes what Envoy is told. Where a request goes on as it came, that depends on the token alone: it is kept with it.
pub fn write(verdict: &Verdict, out: &mut impl BufMut) {
    match verdict {
        Verdict::Admitted(admitted) if admitted.is_plain() => {
            let kept = &admitted.known.passed;
            if let Some(bytes) = kept.get() {
                return out.put_slice(bytes);
            }
            let bytes = Bytes::from(self::verdict(verdict).encode_to_vec());
            out.put_slice(&bytes);
            if bytes.len() <= MOST_KEPT {
                // Somebody else may have put the same there meanwhile.
                let _ = kept.set(bytes);
            }
        }
        Verdict::Admitted(_) | Verdict::Refused(_) => self::verdict(verdict).encode_raw(out),
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

fn source(attributes: &AttributeContext) -> &str {
    let address = attributes.source.as_ref().and_then(|peer| peer.address.as_ref());
    match address.and_then(|address| address.address.as_ref()) {
        Some(address::Address::SocketAddress(socket)) => &socket.address,
        None => "",
    }
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
