//! The first answer to a wildcard client.

use std::collections::HashSet;
use std::sync::Arc;

use crate::resource_set::Position;

/// The part of the log that such a client has yet to get: everything that last changed in it is due,
/// and nothing is remembered per name. What changes meanwhile leaves this part of the log.
#[derive(Debug)]
pub(super) struct Fill {
    next: Position,
    until: Position,
    /// About how many resources it has.
    left: usize,
    /// Names in it that were sent for another reason.
    sent: HashSet<Arc<str>>,
}

impl Fill {
    pub(super) fn new(until: Position, left: usize) -> Self {
        Self { next: 0, until, left, sent: HashSet::new() }
    }

    /// Where it continues.
    pub(super) fn next(&self) -> Position {
        self.next
    }

    pub(super) fn rest(&self) -> std::ops::RangeInclusive<Position> {
        self.next..=self.until
    }

    /// Whether this resource is due, by the position of its last change.
    pub(super) fn has(&self, name: &str, changed_at: Position) -> bool {
        self.covers(changed_at) && !self.sent.contains(name)
    }

    fn covers(&self, changed_at: Position) -> bool {
        self.rest().contains(&changed_at)
    }

    /// Records that everything up to this position is taken.
    pub(super) fn took(&mut self, position: Position) {
        self.next = position + 1;
        self.left = self.left.saturating_sub(1);
    }

    /// The rest when this position is taken, and all later ones are; `None` for nothing.
    pub(super) fn before(mut self, position: Position) -> Option<Self> {
        self.until = position.checked_sub(1)?;
        self.left = self.left.saturating_sub(1);
        (!self.rest().is_empty()).then_some(self)
    }

    /// Records that one was sent for another reason.
    pub(super) fn sent(&mut self, name: &Arc<str>, changed_at: Position) {
        if self.covers(changed_at) {
            self.sent.insert(name.clone());
        }
    }

    /// Makes one due again that was sent. Returns whether it is in this part of the log.
    pub(super) fn again(&mut self, name: &str, changed_at: Position) -> bool {
        let covers = self.covers(changed_at);
        if covers {
            self.sent.remove(name);
        }
        covers
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }
}
