//! Messages that the caller has compressed with gzip (`grpc-encoding: gzip`). The services get them uncompressed.
//!
//! The limit on the size of a message applies before and after. A message that expands beyond it is refused when it does, so a
//! small request cannot take more memory than the largest message of its method, and that memory is taken from the gate of
//! request bytes.

use std::io::Read as _;

use bytes::{Bytes, BytesMut};
use flate2::bufread::MultiGzDecoder;
use http::{HeaderMap, HeaderName};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::message_progress::PREFIX;
use crate::grpc::status::status;
use crate::model::{Error, ErrorKind, Result};

const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const ACCEPTED: (&str, &str) = ("grpc-accept-encoding", "gzip,identity");

/// How many bytes are decompressed before their place is reserved.
const STEP: u64 = 8 * 1024;

/// Takes the encoding of the messages from the headers, because the services get uncompressed messages. `None` if they are not
/// compressed.
///
/// # Errors
/// `UNIMPLEMENTED` with the encodings that are accepted, as the protocol of gRPC demands.
pub(super) fn take_encoding(headers: &mut HeaderMap) -> Result<Option<Gunzip>, Box<Status>> {
    let mut encodings = headers.get_all(&ENCODING).iter();
    let gunzip = match (encodings.next(), encodings.next()) {
        (None, _) => return Ok(None),
        (Some(encoding), None) if encoding == "identity" => None,
        (Some(encoding), None) if encoding == "gzip" => Some(Gunzip::default()),
        (Some(_), _) => {
            let message = "the encoding of the request (grpc-encoding) is not accepted; use gzip or identity";
            let mut refusal = Status::new(Code::Unimplemented, message);
            let (name, accepted) = ACCEPTED;
            refusal
                .metadata_mut()
                .insert(name, MetadataValue::from_static(accepted));
            return Err(Box::new(refusal));
        }
    };
    headers.remove(&ENCODING);
    Ok(gunzip)
}

/// Decompresses the messages of a request, one at a time.
#[derive(Debug, Default)]
pub(super) struct Gunzip {
    /// What has arrived and was not returned yet.
    received: BytesMut,
    /// Messages that were returned.
    messages: usize,
}

impl Gunzip {
    /// Adds bytes of the request. The caller has checked the length of every message that begins in them.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.received.extend_from_slice(chunk);
    }

    /// Whether everything that has arrived was returned.
    pub(super) fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How many messages were returned.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// The next complete message with its prefix, uncompressed; `None` if more has to arrive first. It has at most `max` bytes.
    /// `reserve` gets the memory that it takes so far.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` if it has more bytes, `INVALID_ARGUMENT` if it is not gzip, and the errors of `reserve`.
    pub(super) fn next(
        &mut self,
        max: usize,
        reserve: impl FnMut(usize) -> Result<()>,
    ) -> Result<Option<Bytes>, Box<Status>> {
        let Some((&[flag, a, b, c, d], rest)) = self.received.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if rest.len() < length {
            return Ok(None);
        }
        let message = self.received.split_to(PREFIX + length).freeze();
        self.messages += 1;
        match flag {
            1 => uncompressed(&message.slice(PREFIX..), max, reserve).map(Some),
            // Not compressed. Tonic refuses unknown flags.
            _ => Ok(Some(message)),
        }
    }
}

/// The message with the prefix of an uncompressed message.
fn uncompressed(
    compressed: &[u8],
    max: usize,
    mut reserve: impl FnMut(usize) -> Result<()>,
) -> Result<Bytes, Box<Status>> {
    let mut message = vec![0; PREFIX];
    let mut decoder = MultiGzDecoder::new(compressed);
    loop {
        let read = decoder.by_ref().take(STEP).read_to_end(&mut message);
        let is_complete = read.map_err(|error| Box::new(not_gzip(error)))? == 0;
        let length = message.len() - PREFIX;
        if length > max {
            return Err(Box::new(Status::out_of_range(format!(
                "the message has more than {max} bytes when it is decompressed; this method allows {max}"
            ))));
        }
        if is_complete {
            let length = u32::try_from(length).map_err(|error| Box::new(status(Error::internal(error))))?;
            message[1..PREFIX].copy_from_slice(&length.to_be_bytes());
            return Ok(message.into());
        }
        reserve(compressed.len() + message.capacity()).map_err(|error| Box::new(status(error)))?;
    }
}

fn not_gzip(error: std::io::Error) -> Status {
    let message = "the message is not compressed with gzip, as grpc-encoding says";
    status(Error::new(ErrorKind::InvalidRequest, message).because(error))
}
