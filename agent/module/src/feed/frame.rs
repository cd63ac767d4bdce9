//! Frames: a length and a message.

use std::io::{self, Read, Write};

use prost::Message;

/// The largest message.
pub const MOST: usize = 16 << 20;

/// Writes one.
pub fn write(writer: &mut impl Write, message: &impl Message) -> io::Result<()> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).ok().filter(|_| length <= MOST);
    let prefix = prefix.ok_or_else(|| io::Error::other("a message is too large"))?;
    let mut bytes = Vec::with_capacity(4 + length);
    bytes.extend_from_slice(&prefix.to_le_bytes());
    message.encode(&mut bytes).map_err(io::Error::other)?;
    writer.write_all(&bytes)
}

/// Reads one.
pub fn read<M: Message + Default>(reader: &mut impl Read) -> io::Result<M> {
    decode(&read_bytes(reader)?)
}

/// The bytes of one.
pub(crate) fn read_bytes(reader: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MOST {
        return Err(io::Error::other("a message is too large"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn decode<M: Message + Default>(bytes: &[u8]) -> io::Result<M> {
    M::decode(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::message::Applied;

    #[test]
    fn a_frame_is_read_as_it_was_written_and_a_long_one_is_refused() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Applied { version: 7 }).unwrap();
        assert_eq!(read::<Applied>(&mut bytes.as_slice()).unwrap().version, 7);
        assert!(read::<Applied>(&mut &bytes[..bytes.len() - 1]).is_err());
        let long = u32::try_from(MOST + 1).unwrap().to_le_bytes();
        assert!(read::<Applied>(&mut long.as_slice()).is_err());
    }
}
