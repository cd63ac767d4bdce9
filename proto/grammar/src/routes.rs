//! Which of several routes takes a call: the order in which they are tried, and pairs of which only
//! luck would decide.

mod ties;

use std::cmp::Reverse;

use crate::path::{Part, Pattern, Segment};

pub use ties::{Tie, ties};

/// What of a route says which calls it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<'a> {
    /// Higher is tried first.
    pub priority: i32,
    /// Which paths.
    pub path: Pattern,
    /// In upper case; any when empty.
    pub methods: Vec<&'a str>,
    /// On headers. All must hold.
    pub headers: Vec<Condition<'a>>,
    /// On query parameters. All must hold.
    pub query: Vec<Condition<'a>>,
}

/// A condition on the value of a header or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// Of what; of headers in lower case.
    pub name: String,
    /// How the value must be.
    pub value: Value<'a>,
}

/// What a condition asks of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Equal to this.
    Exact(&'a str),
    /// Begins with this.
    Prefix(&'a str),
    /// Matches this.
    Regex(&'a str),
    /// There, or not there.
    Present(bool),
}

/// The place of a route in the order: the smaller one is tried first.
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
    /// Compared from the left.
    Steps(Vec<Step>),
    /// The longer text first.
    Expression(Reverse<usize>),
}

/// A segment, the narrowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Step {
    Literal,
    /// More bytes of text first, then more of them at the beginning.
    Mixed(Reverse<usize>, Reverse<usize>),
    Variable,
    /// `{name+}`.
    Tail,
    /// What is below a prefix, and the prefix itself.
    Below,
    /// Nothing follows.
    End,
}

/// Priority, then the path, then the number of conditions.
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
