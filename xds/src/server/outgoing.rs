//! Data waiting to be written, taken out as the connection has space for it.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::outbound::{Message, Piece};

/// The size of a copy. Small enough to reuse the allocator's warm memory; a whole response would
/// need new pages for each client.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Message>,
    /// The rest of a piece that was split.
    rest: Bytes,
    left: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, message: Message) {
        self.left += message.framed_len();
        self.messages.push_back(message);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn chunk(&mut self) -> Bytes {
        let size = self.left.min(CHUNK);
        let mut chunk = BytesMut::with_capacity(size);
        let rest = std::mem::take(&mut self.rest);
        self.rest = put(&rest, &mut chunk, size);
        while chunk.len() < size {
            let Some(message) = self.messages.front_mut() else { break };
            match message.next_piece() {
                Some(Piece::Head(head)) => {
                    let (now, later) = head.split_at(head.len().min(size - chunk.len()));
                    chunk.put_slice(now);
                    self.rest = Bytes::copy_from_slice(later);
                }
                Some(Piece::Content(content)) => self.rest = put(content, &mut chunk, size),
                Some(Piece::Restamped(content)) => self.rest = put(&content, &mut chunk, size),
                None => drop(self.messages.pop_front()),
            }
        }
        self.left -= size;
        if self.left == 0 {
            self.messages.clear();
        }
        chunk.freeze()
    }
}

/// Copies as much as fits and returns the rest.
fn put(piece: &Bytes, chunk: &mut BytesMut, size: usize) -> Bytes {
    let fits = piece.len().min(size - chunk.len());
    let (now, later) = piece.split_at(fits);
    chunk.put_slice(now);
    if later.is_empty() { Bytes::new() } else { piece.slice(fits..) }
}
