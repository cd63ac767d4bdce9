//! Pairs of routes that could match the same call and have the same rank.

use std::collections::HashMap;

use super::{Condition, Rank, Route, Value, rank};
use crate::path::Shape;

/// Two routes, by their indices, whose order is undefined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tie {
    /// The earlier one.
    pub first: usize,
    /// The later one.
    pub second: usize,
}

/// The ties among these routes, at most one for each later route and at most `most` in total.
pub fn ties<'a>(routes: impl IntoIterator<Item = Route<'a>>, most: usize) -> Vec<Tie> {
    let mut alike: HashMap<(Rank, Shape), Vec<(usize, Route<'a>)>> = HashMap::new();
    let mut ties = Vec::new();
    for (second, route) in routes.into_iter().enumerate() {
        let earlier = alike.entry((rank(&route), route.path.shape())).or_default();
        if let Some((first, _)) = earlier.iter().find(|(_, other)| meet(other, &route)) {
            ties.push(Tie { first: *first, second });
            if ties.len() >= most {
                break;
            }
        }
        earlier.push((second, route));
    }
    ties
}

/// Whether a call could meet the conditions of both.
fn meet(a: &Route<'_>, b: &Route<'_>) -> bool {
    let methods = a.methods.is_empty()
        || b.methods.is_empty()
        || a.methods.iter().any(|method| b.methods.contains(method));
    methods && all_meet(&a.headers, &b.headers) && all_meet(&a.query, &b.query)
}

fn all_meet(a: &[Condition<'_>], b: &[Condition<'_>]) -> bool {
    a.iter().all(|a| b.iter().all(|b| a.name != b.name || values_meet(a.value, b.value)))
}

/// Whether one value could satisfy both. This is undecidable here for two expressions, so different
/// ones are assumed to be disjoint.
fn values_meet(a: Value<'_>, b: Value<'_>) -> bool {
    use Value::{Exact, Prefix, Present, Regex};
    match (a, b) {
        (Exact(a), Exact(b)) | (Regex(a), Regex(b)) => a == b,
        (Exact(value), Prefix(start)) | (Prefix(start), Exact(value)) => value.starts_with(start),
        (Prefix(a), Prefix(b)) => a.starts_with(b) || b.starts_with(a),
        (Present(a), Present(b)) => a == b,
        (Present(present), _) | (_, Present(present)) => present,
        (Regex(_), _) | (_, Regex(_)) => false,
    }
}
