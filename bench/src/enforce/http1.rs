//! A connection of a caller, HTTP/1.1, with as little of its own cost as possible.

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The largest answer.
const MOST: usize = 1 << 16;

pub(super) struct Http1<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(4_096) }
    }

    /// Sends one request and reads its answer. The status.
    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed");
            }
            if let Some((status, length)) = answer(&self.buffer)?
                && self.buffer.len() >= length
            {
                return Ok(status);
            }
            if self.buffer.len() > MOST {
                bail!("an answer of more than {MOST} bytes");
            }
        }
    }
}

/// The status and the whole length of an answer; `None` if its head is not there yet.
pub(super) fn answer(bytes: &[u8]) -> Result<Option<(u16, usize)>> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = bytes.get(..end).unwrap_or_default();
    let status = head.get(9..12).and_then(number).context("no status")?;
    let name = b"content-length: ";
    let length = find(head, name).and_then(|at| {
        let value = head.get(at + name.len()..)?;
        number(value.split(|byte| *byte == b'\r').next()?)
    });
    let length = length.context("an answer without a length")?;
    Ok(Some((u16::try_from(status)?, end + 4 + length)))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn number(bytes: &[u8]) -> Option<usize> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let bytes = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\nserver: x\r\n\r\nno";
        assert_eq!(answer(bytes).unwrap(), Some((401, bytes.len())));
        assert_eq!(answer(&bytes[..40]).unwrap(), None);
        assert!(answer(b"HTTP/1.1 200 OK\r\nserver: x\r\n\r\n").is_err());
    }
}
