//! Paths of routes: `exact`, `prefix` and `template`.
//!
//! A path is a list of segments. Literal text is stored decoded, so that all its spellings are one
//! path: `/caf%C3%A9` is `/café`, `/%61` is `/a`. [`matcher`] renders it for Envoy,
//! [`crate::routes`] orders routes.

pub mod advice;
pub mod first;
mod literal;
mod matcher;
mod template;

use std::fmt::Write as _;

use thiserror::Error;

use crate::caps;

pub use literal::{is_unreserved, spellings};
pub use matcher::{Matcher, captures, leaving, matcher, spelled_start};

/// The paths that a route matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// Segment by segment.
    Segments(Segments),
    /// A regular expression over the whole path.
    Expression(String),
}

/// A path as segments.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segments {
    /// The parts between slashes; the last one is empty when the path ends with a slash.
    pub list: Vec<Segment>,
    /// Whether more segments may follow: a prefix.
    pub open: bool,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Text alone, as bytes.
    Literal(Vec<u8>),
    /// Variables with text beside or between them.
    Mixed(Vec<Part>),
    /// `{name}`: any text.
    Variable(String),
    /// `{name+}`: the rest of the path, at least one byte of it.
    Tail(String),
}

/// A part of a mixed segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Text, as bytes.
    Literal(Vec<u8>),
    /// `{name}`: any text.
    Variable(String),
}

/// What a pattern matches, whatever the names of its variables: two routes of one shape match the
/// same paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shape(String);

/// Why a path is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PathFault {
    /// No slash at the beginning.
    #[error("a path begins with '/'")]
    Start,
    /// Too long.
    #[error("{}", caps::PATH_BYTES.words())]
    Length,
    /// Too large once compiled.
    #[error(
        "too large: its expression has {0} instructions, at most {max} are accepted",
        max = caps::PATH_PROGRAM.value
    )]
    Size(u64),
    /// A character that must be escaped in a URI.
    #[error("{0:?} is written percent-encoded: {1}")]
    Character(char, String),
    /// A percent sign without two digits.
    #[error("'%' is followed by two hex digits; a percent sign itself is written %25")]
    Escape,
    /// Never reaches a route in this encoding.
    #[error("{0}: no encoded '/', '\\' or control character is routed")]
    Encoded(String),
    /// Parameters of a segment.
    #[error("no ';': upstreams cut a segment off there")]
    Semicolon,
    /// Removed by normalisation.
    #[error("no empty, '.' or '..' segment: they are normalised away before matching")]
    Segment,
    /// A template where a literal path is required.
    #[error("'{{' and '}}' stand around variables, in a `template`; as text they are %7B and %7D")]
    Brace,
    /// Not a name of a variable.
    #[error("'{{{0}}}': {1}")]
    Name(String, &'static str),
    /// A name that is used twice.
    #[error("the variable '{0}' is there twice")]
    Duplicate(String),
    /// Two variables without text between them.
    #[error("'{{{0}}}': text stands between two variables of a segment")]
    Adjacent(String),
    /// Text after or beside a tail.
    #[error("'{{{0}+}}' takes the rest of the path: it is the last segment, alone")]
    Tail(String),
    /// Syntax of another gateway.
    #[error("{0}")]
    Foreign(String),
}

impl Pattern {
    /// Parses an exact path.
    pub fn exact(text: &str) -> Result<Self, PathFault> {
        let list = read(text, |segment| literal::decode(segment).map(Segment::Literal))?;
        Ok(Self::Segments(Segments { list, open: false }))
    }

    /// Parses a prefix of whole segments, with or without a trailing slash.
    pub fn prefix(text: &str) -> Result<Self, PathFault> {
        let Self::Segments(mut segments) = Self::exact(text)? else { return Err(PathFault::Start) };
        segments.list.pop_if(|last| matches!(last, Segment::Literal(text) if text.is_empty()));
        Ok(Self::Segments(Segments { open: true, ..segments }))
    }

    /// Parses segments with variables.
    pub fn template(text: &str) -> Result<Self, PathFault> {
        let list = read(text, template::segment)?;
        template::refuse_misplaced(&list)?;
        Ok(Self::Segments(Segments { list, open: false }))
    }

    /// Equal for patterns that match the same paths, except regular expressions, which are compared
    /// as text.
    pub fn shape(&self) -> Shape {
        let segments = match self {
            Self::Expression(text) => return Shape(format!("~{text}")),
            Self::Segments(segments) => segments,
        };
        let mut shape = String::new();
        for segment in &segments.list {
            shape.push('/');
            match segment {
                Segment::Literal(text) => write_text(&mut shape, text),
                Segment::Variable(_) => shape.push_str("{}"),
                Segment::Tail(_) => shape.push_str("{+}"),
                Segment::Mixed(parts) => parts.iter().for_each(|part| match part {
                    Part::Literal(text) => write_text(&mut shape, text),
                    Part::Variable(_) => shape.push_str("{}"),
                }),
            }
        }
        if segments.open {
            shape.push_str("/**");
        }
        Shape(shape)
    }
}

impl Segments {
    /// Whether every segment is text, so that it matches one path, or what is below one.
    pub fn is_literal(&self) -> bool {
        self.list.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }
}

/// Percent-encodes where necessary, in the spelling that shapes are compared by.
fn write_text(shape: &mut String, text: &[u8]) {
    for &byte in text {
        if is_unreserved(byte) {
            shape.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(shape, "%{byte:02X}");
        }
    }
}

fn read(
    text: &str,
    segment: impl Fn(&str) -> Result<Segment, PathFault>,
) -> Result<Vec<Segment>, PathFault> {
    let rest = text.strip_prefix('/').ok_or(PathFault::Start)?;
    if !caps::PATH_BYTES.admits(text.len()) {
        return Err(PathFault::Length);
    }
    let list = rest.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
    let is = |segment: &Segment, text: &[u8]| matches!(segment, Segment::Literal(it) if it == text);
    let inner = list.split_last().map_or(&[][..], |(_, inner)| inner);
    let dots = list.iter().any(|segment| is(segment, b".") || is(segment, b".."));
    if dots || inner.iter().any(|segment| is(segment, b"")) {
        return Err(PathFault::Segment);
    }
    Ok(list)
}
