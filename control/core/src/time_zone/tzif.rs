//! TZif (RFC 9636), the format of the database: changes of the offset up to the last one that has no rule,
//! and the rule that holds from then on.

use imp_grammar::time_zone::OffsetChange;

pub(super) struct File<'a> {
    /// Before the first change.
    pub(super) first_offset: i32,
    /// In order.
    pub(super) changes: Vec<OffsetChange>,
    /// A POSIX TZ string.
    pub(super) rule: &'a str,
}

/// Bytes of a header: the magic number, the version, 15 reserved and six lengths.
const HEADER: usize = 44;

/// Bytes of the description of an offset, which begins with the offset.
const OFFSET: usize = 6;

struct Lengths {
    utc_marks: usize,
    standard_marks: usize,
    leaps: usize,
    changes: usize,
    offsets: usize,
    abbreviations: usize,
}

/// Reads a file of version 2 or later. `None` if it is none.
pub(super) fn read(data: &[u8]) -> Option<File<'_>> {
    // The first block has times of 32 bits, the second the same times and more.
    let (lengths, data) = header(data)?;
    let (lengths, data) = header(data.get(lengths.block(4)..)?)?;
    let (block, footer) = data.split_at_checked(lengths.block(8))?;
    let (times, rest) = block.split_at_checked(lengths.changes * 8)?;
    let (kinds, rest) = rest.split_at_checked(lengths.changes)?;
    let (offsets, _) = rest.split_at_checked(lengths.offsets * OFFSET)?;
    let offset = |kind: u8| {
        let bytes = offsets.get(usize::from(kind) * OFFSET..)?.first_chunk::<4>()?;
        Some(i32::from_be_bytes(*bytes))
    };
    let (times, _) = times.as_chunks::<8>();
    let change = |(time, kind): (&[u8; 8], &u8)| {
        Some(OffsetChange { at: i64::from_be_bytes(*time), offset: offset(*kind)? })
    };
    let changes = times.iter().zip(kinds).map(change).collect::<Option<Vec<_>>>()?;
    let rule = std::str::from_utf8(footer).ok()?.strip_prefix('\n')?.strip_suffix('\n')?;
    Some(File { first_offset: offset(0)?, changes, rule })
}

fn header(data: &[u8]) -> Option<(Lengths, &[u8])> {
    let (header, rest) = data.split_at_checked(HEADER)?;
    let fields = header.strip_prefix(b"TZif")?.get(16..)?;
    let (numbers, _) = fields.as_chunks::<4>();
    let mut numbers = numbers.iter().map(|bytes| u32::from_be_bytes(*bytes) as usize);
    let mut next = || numbers.next();
    let lengths = Lengths {
        utc_marks: next()?,
        standard_marks: next()?,
        leaps: next()?,
        changes: next()?,
        offsets: next()?,
        abbreviations: next()?,
    };
    Some((lengths, rest))
}

impl Lengths {
    /// Bytes of the block behind this header, with times of so many bytes.
    fn block(&self, time: usize) -> usize {
        self.changes * (time + 1)
            + self.offsets * OFFSET
            + self.abbreviations
            + self.leaps * (time + 4)
            + self.standard_marks
            + self.utc_marks
    }
}
