//! A minimal lexer for Rust to count lines: comments and literals blanked, braces matched.

use std::ops::Range;

/// The source with every comment and every literal's content replaced by blanks; lines stay.
pub(super) fn blanked(text: &str) -> Vec<u8> {
    let mut out = text.as_bytes().to_vec();
    let mut at = 0;
    while at < out.len() {
        let end = skip(&out, at);
        if end == at {
            at += 1;
            continue;
        }
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    out
}

/// The end of the comment or literal that begins at `at`; `at` itself if none does.
fn skip(text: &[u8], at: usize) -> usize {
    let rest = &text[at..];
    let until = |needle: &[u8]| find(rest, needle, 0).map_or(text.len(), |i| at + i);
    match rest {
        [b'/', b'/', ..] => until(b"\n"),
        [b'/', b'*', ..] => block_comment(text, at),
        [b'"', ..] => string(text, at + 1),
        [b'r', b'"' | b'#', ..] if !follows_word(text, at) => raw_string(text, at),
        [b'\'', b'\\', ..] => find(rest, b"'", 3).map_or(text.len(), |i| at + i + 1),
        [b'\'', ..] => character(rest).map_or(at, |length| at + length),
        _ => at,
    }
}

fn follows_word(text: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| text.get(i)).copied().unwrap_or(b' ');
    (before.is_ascii_alphanumeric() && before != b'b') || before == b'_'
}

fn find(text: &[u8], needle: &[u8], from: usize) -> Option<usize> {
    let tail = text.get(from..)?;
    tail.windows(needle.len()).position(|window| window == needle).map(|i| i + from)
}

fn block_comment(text: &[u8], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i < text.len() {
        match &text[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

fn string(text: &[u8], mut at: usize) -> usize {
    while at < text.len() {
        match text[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn raw_string(text: &[u8], at: usize) -> usize {
    let hashes = text[at + 1..].iter().take_while(|&&byte| byte == b'#').count();
    if text.get(at + 1 + hashes) != Some(&b'"') {
        return at; // r#keyword
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    find(text, &close, at + 2 + hashes).map_or(text.len(), |i| i + close.len())
}

/// The length of a character literal; None for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let close = find(rest, b"'", 2)?;
    let inner = std::str::from_utf8(&rest[1..close]).ok()?;
    (inner.chars().count() == 1).then_some(close + 1)
}

/// Byte ranges of the modules under `#[cfg(test)]`.
pub(super) fn test_modules(code: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = find(code, b"#[cfg(test)]", from) {
        from = start + 1;
        let end = block_end(code, start).unwrap_or(code.len());
        found.push(start..end);
    }
    found
}

/// The end of the first block at or after `from`; `None` when a `;` comes first.
fn block_end(code: &[u8], from: usize) -> Option<usize> {
    let mut braces = 0;
    let mut others = 0;
    for (i, byte) in code.iter().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => others += 1,
            b')' | b']' => others -= 1,
            b'{' => braces += 1,
            b';' if braces == 0 && others == 0 => return None,
            b'}' => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Name and byte range of every function with a body.
pub(super) fn functions(code: &[u8]) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = find(code, b"fn ", from) {
        from = start + 3;
        if follows_word(code, start) || start.checked_sub(1).is_some_and(|i| code[i] == b'b') {
            continue;
        }
        let name: Vec<u8> = code[from..]
            .iter()
            .copied()
            .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
            .collect();
        if let (false, Some(end)) = (name.is_empty(), block_end(code, start)) {
            found.push((String::from_utf8_lossy(&name).into_owned(), start..end));
        }
    }
    found
}

/// Lines that a range touches.
pub(super) fn lines(code: &[u8], range: &Range<usize>) -> usize {
    code[range.clone()].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Every path that the code names, with use trees expanded: `a::{b, c::d}` is `a::b` and `a::c::d`.
pub(super) fn paths(code: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if !is_word(code[at]) || at.checked_sub(1).is_some_and(|i| is_word(code[i])) {
            at += 1;
            continue;
        }
        at = path(code, at, "", &mut found);
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn blank(code: &[u8], at: usize) -> usize {
    at + code[at.min(code.len())..].iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Reads the path that begins at `at`; returns its end.
fn path(code: &[u8], mut at: usize, before: &str, found: &mut Vec<String>) -> usize {
    let mut path = before.to_owned();
    loop {
        let word = code[at..].iter().take_while(|byte| is_word(**byte)).count();
        path.push_str(&String::from_utf8_lossy(&code[at..at + word]));
        at += word;
        if !code[at..].starts_with(b"::") {
            break;
        }
        match code.get(at + 2) {
            Some(b'{') => return group(code, at + 3, &format!("{path}::"), found),
            Some(byte) if is_word(*byte) => {
                path.push_str("::");
                at += 2;
            }
            _ => break,
        }
    }
    found.push(path);
    at
}

/// Reads the members of a use group; returns its end.
fn group(code: &[u8], mut at: usize, before: &str, found: &mut Vec<String>) -> usize {
    loop {
        at = blank(code, at);
        match code.get(at) {
            None => return at,
            Some(b'}') => return at + 1,
            Some(byte) if is_word(*byte) => at = path(code, at, before, found),
            Some(_) => at += 1,
        }
    }
}
