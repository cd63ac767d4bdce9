//! Responses as lists of shared bytes: a resource is encoded once, whoever it goes to.

use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::wire::DeltaDiscoveryRequest;

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

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeltaCodec;

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameEncoder;

#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestDecoder;

impl Codec for DeltaCodec {
    type Encode = Frame;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = FrameEncoder;
    type Decoder = RequestDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder
    }
}

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(frame.len());
        for piece in frame.pieces {
            buffer.put(piece);
        }
        Ok(())
    }
}

impl Decoder for RequestDecoder {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        DeltaDiscoveryRequest::decode(bytes).map(Some).map_err(|error| {
            Status::invalid_argument(format!("not a DeltaDiscoveryRequest: {error}"))
        })
    }
}
