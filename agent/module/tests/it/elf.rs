//! The functions that a library or a program offers: the dynamic symbols of its file.

use std::collections::BTreeSet;
use std::path::Path;

const SECTION_OF_DYNAMIC_SYMBOLS: u64 = 11;
const SYMBOL: usize = 24;

/// Their names, if they begin like this.
pub(crate) fn exported(file: &Path, prefix: &str) -> BTreeSet<String> {
    let file = std::fs::read(file).unwrap();
    assert!(file.starts_with(b"\x7fELF\x02\x01"), "no library of this machine");
    let number = |at: usize, bytes: usize| {
        let bytes = file[at..at + bytes].iter().rev();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let (sections, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let section = |index: u64| (sections + index * size) as usize;
    let kind = |index: &u64| number(section(*index) + 4, 4);
    let symbols = (0..count).find(|index| kind(index) == SECTION_OF_DYNAMIC_SYMBOLS).unwrap();
    let place = |index: u64| {
        let at = section(index);
        (number(at + 0x18, 8) as usize, number(at + 0x20, 8) as usize)
    };
    let names = place(number(section(symbols) + 0x28, 4)).0;
    let (begin, length) = place(symbols);
    let mut exported = BTreeSet::new();
    for symbol in (begin..begin + length).step_by(SYMBOL) {
        let (name, defined_in) = (names + number(symbol, 4) as usize, number(symbol + 6, 2));
        if defined_in != 0 && file[name..].starts_with(prefix.as_bytes()) {
            let text = file[name..].split(|byte| *byte == 0).next().unwrap();
            exported.insert(String::from_utf8(text.to_vec()).unwrap());
        }
    }
    exported
}
