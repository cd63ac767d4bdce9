//! What waits to be written, taken out as the connection has room for it.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::outbound::Message;

/// As much as is copied together at once. What the allocator takes from warm memory; a whole response
/// would be fresh pages for each client.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Message>,
    /// The rest of a piece that was cut.
    cut: Bytes,
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
        while chunk.len() < size {
            if self.cut.is_empty() {
                let Some(message) = self.messages.front_mut() else { break };
                match message.next_piece() {
                    Some(piece) => self.cut = piece,
                    None => drop(self.messages.pop_front()),
                }
            }
            let room = size - chunk.len();
            let fits = self.cut.len().min(room);
            chunk.put(self.cut.split_to(fits));
        }
        self.left -= size;
        if self.left == 0 {
            self.messages.clear();
        }
        chunk.freeze()
    }
}
