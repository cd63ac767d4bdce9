//! A stream's requests: the body of an HTTP request, cut into gRPC messages.
//!
//! A message that arrives in one piece is not copied, and nothing is kept of a message after it was
//! read: the first request after a reconnect names everything that the client has, and there are
//! many clients.

use std::pin::Pin;

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tonic::Status;

/// The message header: a compression flag, and four bytes of length.
const HEAD: usize = 5;

pub(super) struct Requests<B> {
    body: Pin<Box<B>>,
    /// The last piece received.
    piece: Bytes,
    /// A message that arrived in several pieces.
    joined: BytesMut,
    /// Larger messages are refused (R86).
    limit: usize,
    /// Whether the current message was announced as large.
    told: bool,
}

/// The reader is told of a message larger than this before it is complete.
const LARGE: usize = 16 << 10;

/// The result of a read.
pub(super) enum Read {
    /// The beginning of a large message, announced once; the message itself is next.
    Large,
    /// A message.
    Message(Bytes),
    /// The client has finished or left.
    End,
}

impl<B> Requests<B>
where
    B: http_body::Body,
    B::Data: Send,
{
    pub(super) fn new(body: B, limit: usize) -> Self {
        Self {
            body: Box::pin(body),
            piece: Bytes::new(),
            joined: BytesMut::new(),
            limit,
            told: false,
        }
    }

    /// Returns the next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Read, Status> {
        loop {
            if let Some(message) = self.cut()? {
                self.told = false;
                return Ok(Read::Message(message));
            }
            if self.joined.len() > LARGE && !std::mem::replace(&mut self.told, true) {
                return Ok(Read::Large);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        self.push(data.copy_to_bytes(data.remaining()));
                    }
                }
                // The connection broke, wherever it was.
                Some(Err(_)) => return Ok(Read::End),
                None if self.piece.is_empty() && self.joined.is_empty() => return Ok(Read::End),
                None => return Err(Status::internal("the request ends within a message")),
            }
        }
    }

    fn push(&mut self, piece: Bytes) {
        if self.piece.is_empty() && self.joined.is_empty() {
            self.piece = piece;
            return;
        }
        self.joined.extend_from_slice(&std::mem::take(&mut self.piece));
        self.joined.extend_from_slice(&piece);
    }

    /// Takes a whole message, if there is one.
    fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        let there = if self.joined.is_empty() { &self.piece[..] } else { &self.joined[..] };
        let Some((&[compressed, a, b, c, d], body)) = there.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        match compressed {
            0 => {}
            1 => return Err(Status::unimplemented("requests must not be compressed")),
            _ => return Err(Status::internal("not a message of gRPC")),
        }
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length > self.limit {
            let limit = self.limit;
            let what = format!("a request of {length} bytes; at most {limit} are read");
            return Err(Status::out_of_range(what));
        }
        if body.len() < length {
            return Ok(None);
        }
        if self.joined.is_empty() {
            self.piece.advance(HEAD);
            return Ok(Some(self.piece.split_to(length)));
        }
        self.joined.advance(HEAD);
        let message = self.joined.split_to(length).freeze();
        self.piece = std::mem::take(&mut self.joined).freeze();
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use http_body::Frame;
    use tonic::Code;

    use super::*;

    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("a length").to_be_bytes();
        [&[0][..], &length, message].concat()
    }

    fn requests(bytes: &[u8], size: usize, limit: usize) -> Requests<Pieces> {
        let pieces = bytes.chunks(size).map(Bytes::copy_from_slice).collect();
        Requests::new(Pieces(pieces), limit)
    }

    async fn read(bytes: &[u8], size: usize) -> Result<Vec<Bytes>, Status> {
        let mut requests = requests(bytes, size, 1_000);
        let mut messages = Vec::new();
        while let Read::Message(message) = requests.next().await? {
            messages.push(message);
        }
        Ok(messages)
    }

    #[tokio::test]
    async fn a_large_message_is_announced_once() {
        let large = framed(&vec![7; 3 * LARGE]);
        let bytes = [large.clone(), framed(b"small"), large].concat();
        let mut requests = requests(&bytes, 10_000, 1 << 20);
        let mut read = String::new();
        loop {
            match requests.next().await.expect("read") {
                Read::Large => read.push('L'),
                Read::Message(message) => read.push(if message.len() > LARGE { 'm' } else { 's' }),
                Read::End => break,
            }
        }
        assert_eq!(read, "LmsLm");
    }

    #[tokio::test]
    async fn messages_are_read_however_they_are_cut() {
        let messages: Vec<Vec<u8>> = (0..40_u8).map(|n| vec![n; usize::from(n) * 25]).collect();
        let bytes = messages.iter().flat_map(|message| framed(message)).collect::<Vec<_>>();
        for size in [1, 2, 3, 5, 7, 64, 999, 100_000] {
            assert_eq!(read(&bytes, size).await.expect("messages"), messages, "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_error() {
        let code = async |bytes: &[u8]| read(bytes, 3).await.expect_err("an error").code();
        assert_eq!(code(&framed(b"cut")[..6]).await, Code::Internal);
        assert_eq!(code(&[0, 0]).await, Code::Internal);
        assert_eq!(code(&[1, 0, 0, 0, 0]).await, Code::Unimplemented);
        assert_eq!(code(&[2, 0, 0, 0, 0]).await, Code::Internal);
        assert_eq!(code(&framed(&[0; 1_001])).await, Code::OutOfRange);
        assert_eq!(read(&framed(&[0; 1_000]), 3).await.expect("a message").len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_what_was_read() {
        let mut requests = requests(&framed(&[7; 900]), 400, 1_000);
        assert!(matches!(requests.next().await, Ok(Read::Message(_))));
        assert_eq!((requests.joined.capacity(), requests.piece.len()), (0, 0));
    }
}
