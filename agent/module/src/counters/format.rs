//! The format of a file of counters.
//!
//! | at | header (one page) | | at | slot (256 bytes) |
//! |---|---|---|---|---|
//! | 0 | `IMPCNT01` | | 0 | 0: free; else twice the number of stores, and 1 |
//! | 8 | epoch: 16 random bytes | | 8 | the count after an even number of stores: two numbers |
//! | | | | 24 | the count after an odd number of stores |
//! | | | | 40 | length of the name, and a check of it |
//! | | | | 48 | name |
//!
//! Numbers have 64 bits, the least significant byte first. A name is written before its slot is in
//! use. The check detects damage.

use std::fs::File;
use std::io::{self, Read as _};
use std::sync::atomic::Ordering;

use imp_enforce::{Pair, Place};
use sha2::{Digest as _, Sha256};

use super::mapping::Mapping;
use super::{Content, Kept};

const MAGIC: u64 = u64::from_le_bytes(*b"IMPCNT01");

/// Size of the header.
pub(super) const PAGE: u64 = 4096;

/// Size of a slot.
pub(super) const SLOT: u64 = 256;

/// The longest name.
pub(super) const NAME: usize = 208;

/// Slots of a new file.
pub(super) const FIRST_SLOTS: u32 = 1024;

/// The most slots.
pub(super) const MAX_SLOTS: u32 = 1 << 20;

/// Where the numbers of the epoch are.
const EPOCH: [u64; 2] = [8, 16];

const COUNTS: u64 = 8;
const LENGTH: u64 = 40;
const TEXT: u64 = 48;

/// Size of a file with this many slots.
pub(super) fn size(slots: u32) -> u64 {
    PAGE + u64::from(slots) * SLOT
}

fn offset(place: Place) -> u64 {
    PAGE + u64::from(place.0) * SLOT
}

fn load(mapping: &Mapping, at: u64) -> u64 {
    mapping.number(at).map_or(0, |number| number.load(Ordering::Acquire))
}

fn store(mapping: &Mapping, at: u64, value: u64) {
    if let Some(number) = mapping.number(at) {
        number.store(value, Ordering::Release);
    }
}

/// Marks a new file; refuses one of another kind.
pub(super) fn begin(mapping: &Mapping) -> io::Result<()> {
    match load(mapping, 0) {
        0 => {
            for at in EPOCH {
                store(mapping, at, random()?);
            }
            store(mapping, 0, MAGIC);
        }
        MAGIC => {}
        _ => return Err(foreign()),
    }
    Ok(())
}

fn random() -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

pub(super) fn foreign() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a file of counters")
}

/// Where the count is after this many stores.
fn side(stores: u64) -> u64 {
    COUNTS + (stores & 1) * 16
}

/// The count of a slot. The caller knows that nobody stores it meanwhile.
pub(super) fn count(mapping: &Mapping, place: Place) -> Pair {
    let slot = offset(place);
    let at = slot + side(load(mapping, slot) >> 1);
    [load(mapping, at), load(mapping, at + 8)]
}

/// Stores a count. The caller knows that nobody else stores it meanwhile.
pub(super) fn keep(mapping: &Mapping, place: Place, [first, second]: Pair) {
    let slot = offset(place);
    let stores = (load(mapping, slot) >> 1).wrapping_add(1);
    let at = slot + side(stores);
    store(mapping, at, first);
    store(mapping, at + 8, second);
    store(mapping, slot, stores << 1 | 1);
}

/// Begins a slot, with a count of 0.
pub(super) fn put(mapping: &Mapping, place: Place, name: &str) {
    let slot = offset(place);
    for at in (COUNTS..LENGTH).step_by(8) {
        store(mapping, slot + at, 0);
    }
    for (index, chunk) in (0..).zip(name.as_bytes().chunks(8)) {
        let mut bytes = [0; 8];
        bytes.iter_mut().zip(chunk).for_each(|(byte, of)| *byte = *of);
        store(mapping, slot + TEXT + 8 * index, u64::from_le_bytes(bytes));
    }
    store(mapping, slot + LENGTH, described(name));
    store(mapping, slot, 1);
}

/// Frees a slot.
pub(super) fn clear(mapping: &Mapping, place: Place) {
    store(mapping, offset(place), 0);
}

/// Length and check of a name.
fn described(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let check = digest.iter().take(4).fold(0, |check, byte| check << 8 | u64::from(*byte));
    check << 32 | name.len() as u64
}

/// The slot of a mapped file; `None` if it is free or damaged.
pub(super) fn slot(mapping: &Mapping, place: Place) -> Option<Kept> {
    let start = offset(place);
    read_slot(|at| load(mapping, start + at))
}

fn read_slot(number: impl Fn(u64) -> u64) -> Option<Kept> {
    let used = number(0);
    let length = usize::try_from(number(LENGTH) & u64::from(u32::MAX)).ok()?;
    if used == 0 || length == 0 || length > NAME {
        return None;
    }
    let words = (TEXT..SLOT).step_by(8).flat_map(|at| number(at).to_le_bytes());
    let name = String::from_utf8(words.take(length).collect()).ok()?;
    let at = side(used >> 1);
    let count = [number(at), number(at + 8)];
    (described(&name) == number(LENGTH)).then_some(Kept { name, count })
}

/// The counts of a file's bytes; `None` if it is no such file.
pub(super) fn parse(bytes: &[u8]) -> Option<Content> {
    let (header, slots) = bytes.split_at_checked(usize::try_from(PAGE).ok()?)?;
    let number = |bytes: &[u8], at: u64| {
        let at = usize::try_from(at).ok()?;
        Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    if number(header, 0)? != MAGIC {
        return None;
    }
    let slots = slots.chunks_exact(usize::try_from(SLOT).ok()?);
    let kept = slots.filter_map(|slot| read_slot(|at| number(slot, at).unwrap_or(0))).collect();
    let [first, second] = EPOCH.map(|at| number(header, at).unwrap_or(0));
    Some(Content { epoch: format!("{first:016x}{second:016x}"), kept })
}
