//! Access rules of former revisions, kept while an Envoy may still run routes that name them.
//!
//! An Envoy that lags, rejects the wanted revision or does not answer runs the routes of a former
//! one, whose rules apply to its calls. Former rules are dropped some time after every connected
//! Envoy has the wanted revision: an Envoy that lost its stream reconnects with its former routes,
//! and asks about calls before it is sent the new ones.

use std::mem;
use std::time::{Duration, Instant};

use bytes::Bytes;
use imp_enforce::{FORMER_RULES, PublishAccess};

use super::core::Core;
use crate::lkg::Table;

/// Longer than Envoy's longest reconnect delay, 30 s.
const LINGER: Duration = Duration::from_secs(120);

/// How often to check for rules that can be dropped.
const SWEEP: Duration = Duration::from_secs(5);

/// The former rules of one publish and their places, latest first. No two are the same, and none is
/// the same as the wanted ones.
#[derive(Clone, Debug, Default)]
pub(super) struct FormerRules {
    rules: Vec<PublishAccess>,
    /// Since when all connected Envoys run the wanted revision.
    settled: Option<Instant>,
}

impl FormerRules {
    /// Reads the stored rules. Unreadable ones are skipped: calls that name them must then pass all
    /// known rules. A damaged row cannot open anything, because routes name rules by their content.
    pub(super) fn read(id: &str, row: &[u8]) -> Self {
        let mut rules: Vec<PublishAccess> = serde_json::from_slice(row).unwrap_or_default();
        rules.retain(|rules| **rules.publish_id() == *id);
        rules.truncate(FORMER_RULES);
        Self { rules, settled: None }
    }

    /// The row to store; `None` if there are no former rules.
    pub(super) fn row(&self) -> Option<Bytes> {
        let some = (!self.rules.is_empty()).then(|| serde_json::to_vec(&self.rules).ok());
        some.flatten().map(Bytes::from)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PublishAccess> + Clone {
        self.rules.iter()
    }

    /// Adds rules that some Envoy may run besides the wanted ones, or equal ones that it may run at
    /// other places. Returns whether that must be
    /// stored. If there are too many, drops the oldest, except `fallback`, which Envoys are known
    /// to have run.
    pub(super) fn add(
        &mut self,
        former: PublishAccess,
        wanted: &PublishAccess,
        fallback: Option<&PublishAccess>,
    ) -> bool {
        self.settled = None;
        let before = self.rules.clone();
        self.rules.retain(|rules| !rules.is_same(wanted) && !rules.is_same(&former));
        if !former.is_same(wanted) {
            self.rules.insert(0, former);
        }
        while self.rules.len() > FORMER_RULES {
            let oldest = self.rules.last();
            let spared = oldest.zip(fallback).is_some_and(|(oldest, it)| oldest.is_same(it));
            self.rules.remove(self.rules.len() - if spared { 2 } else { 1 });
        }
        self.rules != before
    }

    /// Drops all of them once every Envoy has had the wanted revision for long enough. Returns
    /// whether it did.
    pub(super) fn sweep(&mut self, everywhere: bool, now: Instant) -> bool {
        let since = *self.settled.get_or_insert(now);
        if !everywhere {
            self.settled = None;
            return false;
        }
        let over = now.saturating_duration_since(since) >= LINGER;
        if over {
            self.rules.clear();
        }
        over
    }
}

impl Core {
    /// Stores them for a restart, during which Envoys keep their routes.
    pub(super) fn keep_former_rules(&mut self, id: &str) {
        match self.revisions.get(id).and_then(|revisions| revisions.former_rules.row()) {
            Some(row) => {
                self.lkg.put(Table::Rules, id, row);
                self.with_former_rules.insert(id.to_owned());
            }
            None => {
                self.lkg.remove(Table::Rules, id);
                self.with_former_rules.remove(id);
            }
        }
    }

    /// Drops former rules that no Envoy runs any more.
    pub(super) fn sweep_former_rules(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.take_outcomes();
        for id in mem::take(&mut self.with_former_rules) {
            let Some(revisions) = self.revisions.get_mut(&*id) else { continue };
            if revisions.former_rules.sweep(self.tracker.is_everywhere(&id), now) {
                self.lkg.remove(Table::Rules, id.as_str());
                self.enforce(&id);
            } else {
                self.with_former_rules.insert(id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
