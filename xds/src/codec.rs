//! Responses as lists of shared bytes: a resource is encoded once, whoever it goes to.

use std::convert::Infallible;
use std::marker::PhantomData;

use bytes::{Buf as _, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// An encoded response in pieces. Protobuf messages may be concatenated, so the pieces are one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frame {
    pub(crate) pieces: Vec<Bytes>,
}

impl Frame {
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }
}

/// Reads requests of one kind; frames are written by the body of the server's answer.
#[derive(Debug)]
pub(crate) struct RequestCodec<M>(PhantomData<M>);

impl<M> Default for RequestCodec<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct NoEncoder;

#[derive(Debug)]
pub(crate) struct RequestDecoder<M>(PhantomData<M>);

impl<M: prost::Message + Default + 'static> Codec for RequestCodec<M> {
    type Encode = Infallible;
    type Decode = M;
    type Encoder = NoEncoder;
    type Decoder = RequestDecoder<M>;

    fn encoder(&mut self) -> Self::Encoder {
        NoEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

impl Encoder for NoEncoder {
    type Item = Infallible;
    type Error = Status;

    fn encode(&mut self, never: Infallible, _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match never {}
    }
}

impl<M: prost::Message + Default> Decoder for RequestDecoder<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        let message = M::decode(bytes);
        message
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a discovery request: {error}")))
    }
}
