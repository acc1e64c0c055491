//! Envoy's external authorization: the request that it asks about, read where it lies. Generated code would copy a browser's
//! dozen of headers into a map, of which three are looked at: 16,000 of the 98,000 instructions of a call.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::required;
use crate::gateway::{ProxiedRequest, Route};
use crate::model::{Error, Result};
use crate::proto::envoy::service::auth::v3::CheckRequest;

/// An encoded `CheckRequest`. It holds tokens.
#[derive(Clone)]
pub struct EncodedCheckRequest(Bytes);

impl fmt::Debug for EncodedCheckRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Question").field(&self.0.len()).finish()
    }
}

impl EncodedCheckRequest {
    /// What came, of which nothing is known yet.
    #[must_use]
    pub const fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The request that is asked about, and what its route wants.
    pub fn read(&self) -> Result<(ProxiedRequest<'_>, Route<'_>)> {
        let mut parts = CheckRequestFields::default();
        parts.request(&self.0).map_err(|_| no_message())?;
        required(parts.has_attributes.then_some(()), "attributes")?;
        required(parts.has_http.then_some(()), "attributes.request.http")?;
        let streaming = match parts.streaming {
            "" | "false" => false,
            "true" => true,
            _ => {
                let field = "attributes.context_extensions[\"streaming\"]";
                return Err(Error::invalid(field, "must be true or false"));
            }
        };
        let route = Route {
            audience: parts.audience,
            scopes: parts.scopes,
            streaming,
        };
        let asked = ProxiedRequest::new(parts.method, parts.host, parts.source, parts.headers);
        Ok((asked, route))
    }

    /// All of it, to be passed on.
    pub fn decode(self) -> Result<CheckRequest> {
        CheckRequest::decode(self.0).map_err(|_| no_message())
    }
}

fn no_message() -> Error {
    Error::invalid(
        "attributes",
        "cannot be read: this is no CheckRequest of envoy.service.auth.v3",
    )
}

/// What is looked at. Where a field comes again the last one counts, and what a message holds adds up, as
/// <https://protobuf.dev/programming-guides/encoding/#last-one-wins> has it; but a header that comes again is another value.
#[derive(Default)]
struct CheckRequestFields<'a> {
    has_attributes: bool,
    has_http: bool,
    method: &'a str,
    host: &'a str,
    source: &'a str,
    headers: Vec<(&'a str, Cow<'a, str>)>,
    audience: &'a str,
    scopes: &'a str,
    streaming: &'a str,
}

/// Not a message.
struct InvalidEncoding;

type Read = Result<(), InvalidEncoding>;

impl<'a> CheckRequestFields<'a> {
    fn request(&mut self, bytes: &'a [u8]) -> Read {
        fields(bytes, |number, field| match number {
            1 => self.attributes(field),
            _ => Ok(()),
        })
    }

    fn attributes(&mut self, bytes: &'a [u8]) -> Read {
        self.has_attributes = true;
        fields(bytes, |number, field| match number {
            1 => self.peer(field),
            // Request, whose `http` is 2.
            4 => fields(field, |number, field| match number {
                2 => self.http(field),
                _ => Ok(()),
            }),
            10 => {
                let (key, value) = entry(field)?;
                match key {
                    "audience" => self.audience = value,
                    "scopes" => self.scopes = value,
                    "streaming" => self.streaming = value,
                    _ => {}
                }
                Ok(())
            }
            _ => Ok(()),
        })
    }

    /// Its address, whose `socket_address` is 1, whose `address` is 2.
    fn peer(&mut self, bytes: &'a [u8]) -> Read {
        fields(bytes, |number, address| match number {
            1 => fields(address, |number, socket| match number {
                1 => fields(socket, |number, field| match number {
                    2 => text(field).map(|source| self.source = source),
                    _ => Ok(()),
                }),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    fn http(&mut self, bytes: &'a [u8]) -> Read {
        self.has_http = true;
        fields(bytes, |number, field| match number {
            2 => text(field).map(|method| self.method = method),
            3 => {
                let (name, value) = entry(field)?;
                self.headers.push((name, Cow::Borrowed(value)));
                Ok(())
            }
            5 => text(field).map(|host| self.host = host),
            // HeaderMap, whose `headers` is 1.
            13 => fields(field, |number, header| match number {
                1 => self.header(header),
                _ => Ok(()),
            }),
            _ => Ok(()),
        })
    }

    fn header(&mut self, bytes: &'a [u8]) -> Read {
        let (mut name, mut value, mut raw) = ("", "", &[][..]);
        fields(bytes, |number, field| {
            match number {
                1 => name = text(field)?,
                2 => value = text(field)?,
                3 => raw = field,
                _ => {}
            }
            Ok(())
        })?;
        let value = if raw.is_empty() {
            Cow::Borrowed(value)
        } else {
            String::from_utf8_lossy(raw)
        };
        self.headers.push((name, value));
        Ok(())
    }
}

/// Of a `map<string, string>`.
fn entry(bytes: &[u8]) -> Result<(&str, &str), InvalidEncoding> {
    let (mut key, mut value) = ("", "");
    fields(bytes, |number, field| {
        match number {
            1 => key = text(field)?,
            2 => value = text(field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

fn text(bytes: &[u8]) -> Result<&str, InvalidEncoding> {
    std::str::from_utf8(bytes).map_err(|_| InvalidEncoding)
}

/// Calls `each` with the number and the bytes of every field that has a length; no other kind is looked at here.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u32, &'a [u8]) -> Read) -> Read {
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).map_err(|_| InvalidEncoding)?;
        if wire == WireType::LengthDelimited {
            let length = decode_varint(&mut bytes).map_err(|_| InvalidEncoding)?;
            let length = usize::try_from(length).map_err(|_| InvalidEncoding)?;
            let (field, rest) = bytes.split_at_checked(length).ok_or(InvalidEncoding)?;
            bytes = rest;
            each(number, field)?;
        } else {
            skip_field(wire, number, &mut bytes, DecodeContext::default()).map_err(|_| InvalidEncoding)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "check_request_tests.rs"]
mod tests;
