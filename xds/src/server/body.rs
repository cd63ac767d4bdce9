//! A stream's responses as an HTTP body: a large one is cut into pieces when the connection has room for
//! them, so that a client costs a piece of buffer however much it is sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use tokio::sync::mpsc;
use tonic::Status;

use crate::codec::Frame;

/// As much as is copied together at once. What the allocator takes from warm memory; a whole response
/// would be fresh pages for each client.
const CHUNK: usize = 64 << 10;

/// The driver's responses, and after them how the stream ended.
pub(super) struct Body {
    responses: mpsc::Receiver<Result<Frame, Status>>,
    /// What is left of the response under way.
    pieces: VecDeque<Bytes>,
    left: usize,
    ended: bool,
}

impl Body {
    pub(super) fn new(responses: mpsc::Receiver<Result<Frame, Status>>) -> Self {
        Self { responses, pieces: VecDeque::new(), left: 0, ended: false }
    }

    /// The message's head of gRPC: not compressed, so long.
    fn begin(&mut self, frame: Frame) -> Result<(), Status> {
        let length = u32::try_from(frame.len())
            .map_err(|_| Status::resource_exhausted("a response of more than 4 GiB"))?;
        let [a, b, c, d] = length.to_be_bytes();
        let head = Bytes::copy_from_slice(&[0, a, b, c, d]);
        self.left = frame.len() + head.len();
        self.pieces = frame.pieces.into();
        self.pieces.push_front(head);
        Ok(())
    }

    fn chunk(&mut self) -> Bytes {
        let mut chunk = BytesMut::with_capacity(self.left.min(CHUNK));
        while let Some(piece) = self.pieces.front_mut() {
            let room = chunk.capacity() - chunk.len();
            if piece.len() > room {
                chunk.put(piece.split_to(room));
                break;
            }
            chunk.put_slice(piece);
            self.pieces.pop_front();
        }
        self.left -= chunk.len();
        chunk.freeze()
    }

    fn end(&mut self, status: &Status) -> http_body::Frame<Bytes> {
        self.ended = true;
        self.pieces.clear();
        self.left = 0;
        let mut trailers = HeaderMap::with_capacity(3);
        // A status that is no header is one that nobody can be told.
        let _unsayable = status.add_header(&mut trailers);
        http_body::Frame::trailers(trailers)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.left == 0 {
            let begun = match ready!(self.responses.poll_recv(context)) {
                Some(Ok(frame)) => self.begin(frame),
                Some(Err(status)) => Err(status),
                None => Err(Status::ok("")),
            };
            if let Err(status) = begun {
                return Poll::Ready(Some(Ok(self.end(&status))));
            }
        }
        let chunk = self.chunk();
        Poll::Ready(Some(Ok(http_body::Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn a_large_message_comes_whole_in_small_chunks_and_its_end_is_told() {
        let pieces: Vec<_> = (0..300_u32).map(|n| Bytes::from(vec![n as u8; 777])).collect();
        let large = Bytes::from(vec![7; 3 * CHUNK]);
        let pieces: Vec<_> = pieces.into_iter().chain([Bytes::new(), large]).collect();
        let message = pieces.concat();
        let (sender, responses) = mpsc::channel(2);
        sender.try_send(Ok(Frame { pieces })).expect("room");
        sender.try_send(Err(Status::unavailable("closing"))).expect("room");
        let mut body = Body::new(responses);
        let mut got = Vec::new();
        let trailers = loop {
            let frame = body.frame().await.expect("an end").expect("no error");
            match frame.into_data() {
                Ok(chunk) => {
                    assert!(!chunk.is_empty() && chunk.len() <= CHUNK);
                    got.extend_from_slice(&chunk);
                }
                Err(frame) => break frame.into_trailers().expect("trailers"),
            }
        };
        assert_eq!(
            got.get(..5).expect("a head"),
            (message.len() as u64).to_be_bytes()[3..].to_vec()
        );
        assert_eq!(got.get(5..).expect("a message"), message);
        assert_eq!(trailers.get("grpc-status").expect("a status"), "14");
        assert!(body.frame().await.is_none());
    }
}
