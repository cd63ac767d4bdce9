//! Names contain no invisible characters.

use imp_grammar::texts::{is_plain, is_visible};

#[test]
fn what_cannot_be_seen_stands_in_no_name() {
    let hidden = [
        '\0',
        '\u{1b}',
        '\u{7f}',
        '\u{85}',
        '\u{a0}',
        '\u{ad}',
        '\u{1680}',
        '\u{180e}',
        '\u{2003}',
        '\u{200b}',
        '\u{200d}',
        '\u{200e}',
        '\u{200f}',
        '\u{2028}',
        '\u{202a}',
        '\u{202e}',
        '\u{202f}',
        '\u{205f}',
        '\u{2060}',
        '\u{2066}',
        '\u{2069}',
        '\u{2800}',
        '\u{3000}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{fff9}',
        '\u{e000}',
        '\u{e0041}',
        '\u{1d173}',
        '\u{ffff}',
        '\u{1fffe}',
        '\u{10ffff}',
    ];
    for c in hidden {
        assert!(!is_visible(c), "U+{:04X}", u32::from(c));
    }
    for c in "Azß9 -_.()é漢字한국어العربيةहिन्दी\u{1f680}€".chars() {
        assert!(is_visible(c), "U+{:04X}", u32::from(c));
    }
}

#[test]
fn a_longer_text_has_lines_and_nothing_hidden() {
    assert!("First line\r\n\tsecond \u{2764}\u{fe0f}".chars().all(is_plain));
    for c in ['\0', '\u{1b}', '\u{200b}', '\u{202e}', '\u{2066}', '\u{feff}', '\u{3000}'] {
        assert!(!is_plain(c), "U+{:04X}", u32::from(c));
    }
}
