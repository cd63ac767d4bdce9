//! Which shapes of resources a client has acknowledged ([`crate::TypeRules::shape`]).

use std::collections::HashSet;

use super::{Entry, SentResource};
use crate::Resource;

/// Responses with more changes are waited for: to look at each costs more than the client's answer.
const LOOKED_AT: usize = 16;

/// Above this number all are forgotten, which costs a wait for each.
const MOST: usize = 1024;

/// The shapes that the client of a stream has acknowledged.
#[derive(Debug, Default)]
pub(super) struct Shapes(HashSet<u64>);

/// The shapes of what a response has, if it has few changes and each of them has one.
pub(super) fn of_response(
    shape: fn(&Resource) -> Option<u64>,
    sent: &[SentResource],
) -> Option<Vec<u64>> {
    if !(1..=LOOKED_AT).contains(&sent.len()) {
        return None;
    }
    let shape_of = |sent: &SentResource| match &sent.0 {
        Entry::Upsert(resource, _) => shape(resource),
        _ => None,
    };
    sent.iter().map(shape_of).collect()
}

impl Shapes {
    pub(super) fn acknowledge(&mut self, shapes: &[u64]) {
        if self.0.len() + shapes.len() > MOST {
            self.0.clear();
        }
        self.0.extend(shapes);
    }

    /// What was refused was of no shape that can be relied on.
    pub(super) fn refuse(&mut self, shapes: &[u64]) {
        for shape in shapes {
            self.0.remove(shape);
        }
    }

    pub(super) fn has_all(&self, shapes: &[u64]) -> bool {
        shapes.iter().all(|shape| self.0.contains(shape))
    }
}
