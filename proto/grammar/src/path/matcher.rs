//! Matchers for Envoy of a path below a base path.

use super::literal::{one_spelling, plain_start, spellings};
use super::{Part, Pattern, Segment, Segments};
use crate::regexes;

/// A way to match a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Matcher {
    /// Equal to this.
    Exact(String),
    /// Equal to this, or this followed by a slash and more; without a trailing slash. Empty for any
    /// path.
    Prefix(String),
    /// RE2, matching the whole path.
    Expression {
        /// The expression.
        text: String,
        /// A prefix of every path that it matches.
        start: String,
    },
}

impl Matcher {
    /// The matcher as an expression, to count its cost.
    pub fn expression(&self) -> String {
        match self {
            Self::Exact(text) | Self::Prefix(text) => regex_syntax::escape(text),
            Self::Expression { text, .. } => text.clone(),
        }
    }
}

/// The matcher of a pattern below `base`, which is "/" or has no trailing slash. Text with a single
/// spelling needs no expression.
pub fn matcher(base: &str, pattern: &Pattern) -> Matcher {
    let base = base.trim_end_matches('/');
    let segments = match pattern {
        Pattern::Segments(segments) => segments,
        Pattern::Expression(text) => {
            return Matcher::Expression {
                text: regexes::below(base, text),
                start: format!("{base}/"),
            };
        }
    };
    match plain(segments) {
        Some(path) if segments.open => Matcher::Prefix(format!("{base}{path}")),
        Some(path) => Matcher::Exact(format!("{base}{path}")),
        None => Matcher::Expression {
            text: format!("{}{}", regex_syntax::escape(base), expression(segments)),
            start: format!("{base}{}", start(segments)),
        },
    }
}

/// An expression for the start of a path that a prefix matches, without what is below it. `None` if
/// it has a single spelling.
pub fn spelled_start(base: &str, prefix: &Pattern) -> Option<String> {
    let Pattern::Segments(segments) = prefix else { return None };
    if plain(segments).is_some() {
        return None;
    }
    let alone = Segments { open: false, list: segments.list.clone() };
    let base = regex_syntax::escape(base.trim_end_matches('/'));
    Some(format!("{base}{}", expression(&alone)))
}

/// An expression for the whole path with groups for these variables, in order. The path is known to
/// match, so segments of text are skipped, whatever their spelling.
pub fn captures(base: &str, segments: &Segments, used: &[&str]) -> String {
    let group = |name: &str, any: &str| match used.contains(&name) {
        true => format!("({any})"),
        false => any.to_owned(),
    };
    let mut expression = regex_syntax::escape(base.trim_end_matches('/'));
    for segment in &segments.list {
        expression.push('/');
        match segment {
            Segment::Literal(_) => expression.push_str("[^/]*"),
            Segment::Variable(name) => expression.push_str(&group(name, VARIABLE)),
            Segment::Tail(name) => expression.push_str(&group(name, TAIL)),
            Segment::Mixed(parts) => expression.extend(parts.iter().map(|part| match part {
                Part::Literal(text) => spellings(text),
                Part::Variable(name) => group(name, VARIABLE),
            })),
        }
    }
    expression
}

/// An expression for the paths of a template in which this variable leaves the directory that it is
/// written into. None for a variable that is a segment of its own: Envoy has normalised it.
pub fn leaving(base: &str, segments: &Segments, name: &str) -> Option<String> {
    let is = |part: &Part| matches!(part, Part::Variable(it) if it == name);
    let place = |it: &Segment| matches!(it, Segment::Mixed(parts) if parts.iter().any(is));
    let at = segments.list.iter().position(place)?;
    let mut expression = regex_syntax::escape(base.trim_end_matches('/'));
    for (index, segment) in segments.list.iter().enumerate() {
        expression.push('/');
        match segment {
            Segment::Mixed(parts) if index == at => {
                expression.extend(parts.iter().map(|part| match part {
                    Part::Literal(text) => spellings(text),
                    Part::Variable(_) if is(part) => LEAVING_SEGMENT.to_owned(),
                    Part::Variable(_) => VARIABLE.to_owned(),
                }));
            }
            Segment::Tail(_) => expression.push_str(TAIL),
            _ => expression.push_str("[^/]*"),
        }
    }
    Some(expression)
}

/// Dots at an end, beside what an upstream may read as a slash.
const LEAVING_SEGMENT: &str =
    r"(?:(?:\.|%2[Ee]){1,2}(?:(?:%2[Ff]|;)[^/]*)?|[^/]*%2[Ff](?:\.|%2[Ee]){1,2})";

/// The path itself, if it is text with one spelling.
fn plain(segments: &Segments) -> Option<String> {
    let mut path = String::new();
    for segment in &segments.list {
        let Segment::Literal(text) = segment else { return None };
        path.push('/');
        path.push_str(one_spelling(text)?);
    }
    Some(path)
}

fn expression(segments: &Segments) -> String {
    let mut expression = String::new();
    for segment in &segments.list {
        expression.push('/');
        match segment {
            Segment::Literal(text) => expression.push_str(&spellings(text)),
            Segment::Variable(_) => expression.push_str(VARIABLE),
            Segment::Tail(_) => expression.push_str(TAIL),
            Segment::Mixed(parts) => expression.extend(parts.iter().map(|part| match part {
                Part::Literal(text) => spellings(text),
                Part::Variable(_) => VARIABLE.to_owned(),
            })),
        }
    }
    if segments.open {
        expression.push_str("(?:/.*)?");
    }
    expression
}

const VARIABLE: &str = "[^/]+";
const TAIL: &str = ".+";

/// The leading text with a single spelling.
fn start(segments: &Segments) -> String {
    let mut start = String::new();
    for segment in &segments.list {
        start.push('/');
        let text = match segment {
            Segment::Literal(text) => text.as_slice(),
            Segment::Mixed(parts) => match parts.first() {
                Some(Part::Literal(text)) => text.as_slice(),
                _ => &[][..],
            },
            Segment::Variable(_) | Segment::Tail(_) => &[],
        };
        let plain = plain_start(text);
        start.push_str(&String::from_utf8_lossy(plain));
        if plain.len() < text.len() || !matches!(segment, Segment::Literal(_)) {
            return start;
        }
    }
    start
}
