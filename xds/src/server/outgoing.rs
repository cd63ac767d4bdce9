//! What waits to be written: whole messages of gRPC in shared pieces, taken out as the connection has
//! room for them.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

/// As much as is copied together at once. What the allocator takes from warm memory; a whole response
/// would be fresh pages for each client.
const CHUNK: usize = 64 << 10;

#[derive(Debug, Default)]
pub(super) struct Outgoing {
    pieces: VecDeque<Bytes>,
    left: usize,
}

impl Outgoing {
    pub(super) fn push(&mut self, piece: Bytes) {
        self.left += piece.len();
        self.pieces.push_back(piece);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    pub(super) fn chunk(&mut self) -> Bytes {
        let mut chunk = BytesMut::with_capacity(self.left.min(CHUNK));
        let mut room = chunk.capacity();
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > room {
                chunk.put(piece.split_to(room));
                break;
            }
            room -= piece.len();
            chunk.put_slice(piece);
            self.pieces.pop_front();
        }
        self.left -= chunk.len();
        if self.left == 0 {
            self.pieces.shrink_to(PIECES);
        }
        chunk.freeze()
    }
}

/// Room for a small response stays.
const PIECES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_whole_in_small_chunks() {
        let mut pieces: Vec<_> = (0..300_u32).map(|n| Bytes::from(vec![n as u8; 777])).collect();
        pieces.extend([Bytes::new(), Bytes::from(vec![7; 3 * CHUNK])]);
        let mut outgoing = Outgoing::default();
        pieces.iter().for_each(|piece| outgoing.push(piece.clone()));
        let mut got = Vec::new();
        while !outgoing.is_empty() {
            let chunk = outgoing.chunk();
            assert!(!chunk.is_empty() && chunk.len() <= CHUNK);
            got.extend_from_slice(&chunk);
        }
        assert_eq!(got, pieces.concat());
        assert!(outgoing.pieces.capacity() <= PIECES);
    }
}
