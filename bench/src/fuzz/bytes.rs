//! Interprets bytes as edits of a valid input, so that most inputs pass the first check.

/// Splits off a chunk with a two-byte length.
pub(super) fn chunk<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_le_bytes(*length)).min(after.len());
    let (chunk, after) = after.split_at(length);
    *rest = after;
    Some(chunk)
}

/// One edit is five bytes: what to do, where (three bytes), with which byte.
const EDIT: usize = 5;

/// Applies the edits to `good`.
pub(super) fn edited(good: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for edit in edits.chunks_exact(EDIT) {
        let &[what, low, middle, high, value] = edit else { continue };
        if bytes.is_empty() {
            break;
        }
        let at = usize::try_from(u32::from_le_bytes([low, middle, high, 0])).unwrap_or(0);
        let at = at % bytes.len();
        match what % 6 {
            0 => bytes[at] = value,
            1 => bytes[at] ^= value,
            2 => bytes.insert(at, value),
            3 => drop(bytes.remove(at)),
            4 => bytes.truncate(at),
            _ => {
                let end = bytes.len().min(at + usize::from(value) * 16);
                bytes[at..end].fill(0);
            }
        }
    }
    bytes
}
