//! Conditions on query parameters. Envoy compares the raw query, but callers can encode a value in
//! many ways (`new%20york`, `new+york`, `%6Eew york`). So a condition becomes an expression over
//! the request target that matches every spelling.

use std::fmt::Write as _;

use crate::caps;

/// A rule for a parameter's decoded value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// The value is equal.
    Exact(&'a str),
    /// The value begins with this.
    Prefix(&'a str),
    /// The parameter is present.
    Present,
}

/// RE2 instructions for what surrounds name and value.
const FRAME: u64 = 40;
/// The most instructions for one byte: itself, two branches, and `%` with two digits in two cases each.
const PER_BYTE: u64 = 9;

/// Whether the expression is within Envoy's limit.
pub fn fits(name: &str, rule: Rule<'_>) -> bool {
    let value = match rule {
        Rule::Exact(value) | Rule::Prefix(value) => value.len(),
        Rule::Present => 0,
    };
    let bytes = (name.len() + value) as u64;
    bytes.saturating_mul(PER_BYTE).saturating_add(FRAME) <= caps::ENVOY_REGEX_PROGRAM.value
}

/// Matches a whole request target (`/path?a=1`) whose parameter meets the rule, in any spelling. If
/// the parameter is repeated, one match is enough.
pub fn expression(name: &str, rule: Rule<'_>) -> String {
    let mut text = String::from(r"[^?]*\?(?:[^&]*&)*");
    spell(name, Place::Name, &mut text);
    match rule {
        Rule::Exact("") => text.push_str("=?(?:&.*)?"),
        Rule::Exact(value) => {
            text.push('=');
            spell(value, Place::Value, &mut text);
            text.push_str("(?:&.*)?");
        }
        Rule::Prefix(value) => {
            text.push('=');
            spell(value, Place::Value, &mut text);
            text.push_str(".*");
        }
        Rule::Present => text.push_str("(?:[=&].*)?"),
    }
    text
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    Name,
    Value,
}

/// Each character plain, where allowed, or percent-encoded.
fn spell(text: &str, place: Place, out: &mut String) {
    for c in text.chars() {
        out.push_str("(?:");
        if c == ' ' {
            out.push_str(r"\+|");
        } else if stands_plain(c, place) {
            literal(c, out);
            out.push('|');
        }
        let mut buffer = [0; 4];
        for byte in c.encode_utf8(&mut buffer).bytes() {
            out.push('%');
            digit(byte >> 4, out);
            digit(byte & 15, out);
        }
        out.push(')');
    }
}

/// Delimiters, and characters that would be decoded to something else, are literal only when
/// encoded.
fn stands_plain(c: char, place: Place) -> bool {
    !matches!(c, '&' | '#' | '%' | '+') && (c != '=' || place == Place::Value)
}

fn literal(c: char, out: &mut String) {
    if c.is_ascii_punctuation() {
        out.push('\\');
    }
    out.push(c);
}

fn digit(value: u8, out: &mut String) {
    let lower = char::from_digit(value.into(), 16).unwrap_or('0');
    let _ = match lower.is_ascii_digit() {
        true => write!(out, "{lower}"),
        false => write!(out, "[{lower}{}]", lower.to_ascii_uppercase()),
    };
}

/// A character that callers never send plain but every match of this expression needs: compared
/// with the raw value, it would match nothing.
pub fn never_sent(expression: &str) -> Option<char> {
    use regex_syntax::ast::{Ast, parse::Parser};
    let tree = Parser::new().parse(expression).ok()?;
    let parts = match &tree {
        Ast::Concat(list) => &list.asts[..],
        one => std::slice::from_ref(one),
    };
    parts.iter().find_map(|part| match part {
        Ast::Literal(literal) if matches!(literal.c, ' ' | '&' | '#') => Some(literal.c),
        _ => None,
    })
}
