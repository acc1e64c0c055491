//! The codec of calls on the path of every request: questions are read as generated code reads them, answers write
//! themselves.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

/// As tonic has it: of a stream, so many bytes are gathered before they are sent.
const YIELD: usize = 32 * 1024;

/// An answer that knows its bytes on the wire.
pub(super) trait Written: Send + 'static {
    /// What one with the claims of a typical token needs, in bytes; a longer one is moved as it grows.
    const ROOM: usize;

    /// Writes them.
    fn write(self, out: &mut EncodeBuf<'_>);
}

/// Reads `D`, writes `E`.
pub(super) struct ByHand<D, E>(PhantomData<(D, E)>);

impl<D, E> Default for ByHand<D, E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<D: Message + Default + 'static, E: Written> Codec for ByHand<D, E> {
    type Encode = E;
    type Decode = D;
    type Encoder = Writer<E>;
    type Decoder = <ProstCodec<D, D> as Codec>::Decoder;

    fn encoder(&mut self) -> Writer<E> {
        Writer(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        // A request with a typical token; tonic's own 8 KiB are for larger messages.
        ProstCodec::<D, D>::raw_decoder(BufferSettings::new(2048, YIELD))
    }
}

pub(super) struct Writer<E>(PhantomData<E>);

impl<E: Written> Encoder for Writer<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.write(out);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(E::ROOM, YIELD)
    }
}
