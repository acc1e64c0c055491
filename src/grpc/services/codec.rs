//! The codec of calls on the path of every request: questions are read as generated code reads them or in a way of their own,
//! answers write themselves.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::grpc::convert::check_request::EncodedCheckRequest;

/// As tonic has it: of a stream, so many bytes are gathered before they are sent.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// An answer that knows its bytes on the wire.
pub(super) trait EncodeResponse: Send + 'static {
    /// What one with the claims of a typical token needs, in bytes; a longer one is moved as it grows.
    const INITIAL_CAPACITY: usize;

    /// Writes them.
    fn write(self, out: &mut EncodeBuf<'_>);
}

/// A question that can be read.
pub(super) trait DecodeRequest: Send + Sized + 'static {
    /// Reads it.
    fn read(from: &mut DecodeBuf<'_>) -> Result<Self, Status>;
}

impl<M: Message + Default + 'static> DecodeRequest for M {
    fn read(from: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        // As tonic's own codec says it.
        Self::decode(from).map_err(|error| Status::internal(error.to_string()))
    }
}

impl DecodeRequest for EncodedCheckRequest {
    fn read(from: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        Ok(Self::new(from.copy_to_bytes(from.remaining())))
    }
}

/// Reads `D`, writes `E`.
pub(super) struct HotPathCodec<D, E>(PhantomData<(D, E)>);

impl<D, E> Default for HotPathCodec<D, E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<D: DecodeRequest, E: EncodeResponse> Codec for HotPathCodec<D, E> {
    type Encode = E;
    type Decode = D;
    type Encoder = Writer<E>;
    type Decoder = Reader<D>;

    fn encoder(&mut self) -> Writer<E> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        Reader(PhantomData)
    }
}

pub(super) struct Reader<D>(PhantomData<D>);

impl<D: DecodeRequest> Decoder for Reader<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::read(from).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        // A request with a typical token; tonic's own 8 KiB are for larger messages.
        BufferSettings::new(2048, YIELD_THRESHOLD)
    }
}

pub(super) struct Writer<E>(PhantomData<E>);

impl<E: EncodeResponse> Encoder for Writer<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.write(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(E::INITIAL_CAPACITY, YIELD_THRESHOLD)
    }
}
