//! The codec of `Validate`, `ValidateBatch` and `Check`, which run for every request of other services. Responses
//! encode themselves, and requests are decoded by generated code or by a decoder of their own.

use std::marker::PhantomData;

use bytes::Buf as _;
use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::grpc::convert::check_request::EncodedCheckRequest;

/// Bytes of a stream that are gathered before they are sent; the value of tonic's own codec.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// A response that encodes itself.
pub(super) trait EncodeResponse: Send + 'static {
    /// Initial size of the buffer, in bytes: enough for the claims of a typical token. The buffer grows for longer
    /// ones.
    const INITIAL_CAPACITY: usize;

    /// Writes the encoded response.
    fn write(self, out: &mut EncodeBuf<'_>);
}

/// A request that can be decoded.
pub(super) trait DecodeRequest: Send + Sized + 'static {
    /// Decodes the request.
    fn read(from: &mut DecodeBuf<'_>) -> Result<Self, Status>;
}

impl<M: Message + Default + 'static> DecodeRequest for M {
    fn read(from: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        // The same status as that of tonic's own codec.
        Self::decode(from).map_err(|error| Status::internal(error.to_string()))
    }
}

impl DecodeRequest for EncodedCheckRequest {
    fn read(from: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        Ok(Self::new(from.copy_to_bytes(from.remaining())))
    }
}

/// A codec that decodes `D` and encodes `E`.
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
        // Enough for a request with a typical token; tonic's default of 8 KiB is meant for larger messages.
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
