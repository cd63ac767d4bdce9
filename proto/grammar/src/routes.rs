//! The order of routes, and pairs of routes whose order would be arbitrary.

mod ties;

use std::cmp::Reverse;

use crate::path::{Part, Pattern, Segment};

pub use ties::{Tie, ties};

/// The parts of a route that decide which calls it matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Higher priorities are tried first.
    pub priority: i32,
    pub path: Pattern,
    /// In upper case; any when empty.
    pub methods: Vec<&'a str>,
    /// Conditions on headers; all must hold.
    pub headers: Vec<Condition<'a>>,
    /// Conditions on query parameters; all must hold.
    pub query: Vec<Condition<'a>>,
}

/// A condition on the value of a header or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// The name; of headers in lower case.
    pub name: String,
    pub value: Value<'a>,
}

/// A condition on a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Equal to this.
    Exact(&'a str),
    /// Begins with this.
    Prefix(&'a str),
    /// Matches this.
    Regex(&'a str),
    /// True: must be present. False: must be absent.
    Present(bool),
}

/// The position of a route in the order: smaller ranks are tried first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    priority: Reverse<i32>,
    path: PathRank,
    conditions: Reverse<usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PathRank {
    /// One path.
    Exact,
    /// Segments are compared from the left.
    Steps(Vec<Step>),
    /// Longer texts come first.
    Expression(Reverse<usize>),
}

/// A segment; narrower ones come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Literal,
    /// More bytes of text first, then more of them at the start.
    Mixed(Reverse<usize>, Reverse<usize>),
    Variable,
    /// `{name+}`.
    Tail,
    /// A prefix: itself and everything below it.
    Below,
    /// The end of the path.
    End,
}

/// By priority, then path, then number of conditions.
pub fn rank(route: &Route<'_>) -> Rank {
    let methods = usize::from(!route.methods.is_empty());
    Rank {
        priority: Reverse(route.priority),
        path: path_rank(&route.path),
        conditions: Reverse(methods + route.headers.len() + route.query.len()),
    }
}

fn path_rank(path: &Pattern) -> PathRank {
    let segments = match path {
        Pattern::Expression(text) => return PathRank::Expression(Reverse(text.len())),
        Pattern::Segments(segments) => segments,
    };
    if segments.is_literal() && !segments.open {
        return PathRank::Exact;
    }
    let end = if segments.open { Step::Below } else { Step::End };
    PathRank::Steps(segments.list.iter().map(step).chain([end]).collect())
}

fn step(segment: &Segment) -> Step {
    match segment {
        Segment::Literal(_) => Step::Literal,
        Segment::Variable(_) => Step::Variable,
        Segment::Tail(_) => Step::Tail,
        Segment::Mixed(parts) => {
            let bytes = |part: &Part| match part {
                Part::Literal(text) => text.len(),
                Part::Variable(_) => 0,
            };
            let all = parts.iter().map(bytes).sum();
            Step::Mixed(Reverse(all), Reverse(parts.first().map_or(0, bytes)))
        }
    }
}
