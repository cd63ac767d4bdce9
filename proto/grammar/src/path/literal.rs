//! Literal text of a path: its decoded bytes, and all spellings that callers may use.
//!
//! Envoy's normalisation leaves one spelling of an unreserved character (RFC 3986, section 2.3). It
//! keeps other encoded characters unchanged, with hex digits in the caller's case, and encodes
//! characters that a path must not contain.

use super::PathFault;

/// Characters with a single spelling after normalisation.
pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Characters that a path may contain plain or encoded.
fn is_delimiter(byte: u8) -> bool {
    b"!$&'()*+,;=:@[]".contains(&byte)
}

/// Decodes text of a definition: raw, percent-encoded or mixed.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, PathFault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = if c == '%' { 3 } else { c.len_utf8() };
        let Some((one, behind)) = rest.split_at_checked(length) else {
            return Err(PathFault::Escape);
        };
        match c {
            '%' => bytes.push(escaped(one)?),
            _ => bytes.extend_from_slice(raw(c, one)?),
        }
        rest = behind;
    }
    Ok(bytes)
}

fn escaped(triplet: &str) -> Result<u8, PathFault> {
    let hex = triplet.get(1..).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).ok_or(PathFault::Escape)?;
    match byte {
        b'/' | b'\\' => Err(PathFault::Encoded(triplet.to_owned())),
        byte if byte.is_ascii_control() => Err(PathFault::Encoded(triplet.to_owned())),
        b';' => Err(PathFault::Semicolon),
        byte => Ok(byte),
    }
}

fn raw(c: char, text: &str) -> Result<&[u8], PathFault> {
    match c {
        '{' | '}' => Err(PathFault::Brace),
        ';' => Err(PathFault::Semicolon),
        '[' | ']' => Err(PathFault::Character(c, encoded(text))),
        _ if !c.is_ascii() && !c.is_control() && !c.is_whitespace() => Ok(text.as_bytes()),
        _ if text.bytes().all(|b| is_unreserved(b) || is_delimiter(b)) => Ok(text.as_bytes()),
        _ => Err(PathFault::Character(c, encoded(text))),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The text as it appears in a caller's path, if it has a single spelling.
pub(super) fn one_spelling(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(is_unreserved).then_some(text)
}

/// The longest prefix of the text with a single spelling.
pub(super) fn plain_start(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| !is_unreserved(*byte)).unwrap_or(text.len());
    text.split_at(end).0
}

/// An expression that matches every spelling of the text.
pub fn spellings(text: &[u8]) -> String {
    let mut expression = String::new();
    let kind = |byte: &u8| match *byte {
        byte if is_unreserved(byte) => 0,
        byte if is_delimiter(byte) => 1,
        _ => 2,
    };
    for run in text.chunk_by(|a, b| kind(a) == kind(b)) {
        match run.first().map(kind) {
            Some(0) => {
                expression.push_str(&regex_syntax::escape(&String::from_utf8_lossy(run)));
            }
            Some(1) => run.iter().for_each(|&byte| {
                let plain = regex_syntax::escape(&char::from(byte).to_string());
                expression.push_str(&format!("(?:{plain}|{})", hex(&[byte])));
            }),
            _ => expression.push_str(&hex(run)),
        }
    }
    expression
}

/// Hex digits in either case.
fn hex(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("%{byte:02X}")).collect();
    let plain = hex.bytes().all(|b| b == b'%' || b.is_ascii_digit());
    if plain { hex } else { format!("(?i:{hex})") }
}
