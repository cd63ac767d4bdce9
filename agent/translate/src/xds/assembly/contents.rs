//! The contents of publishes: each is rendered once, and lives as long as a publish has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::change::Change;
use super::clusters::Clusters;
use super::few::Few;
use super::unit::Unit;
use crate::ir;
use crate::xds::Options;
use crate::xds::content::{Content, Key};
use crate::xds::names::Short;

#[derive(Debug, Default)]
pub(super) struct Contents {
    by_key: HashMap<Key, Used>,
    /// Stamps for contents that Envoys rejected: the next revision with one of them differs in its
    /// bytes from those.
    refused: HashMap<Key, u32>,
    /// With so many it is time to look for unused ones.
    limit: usize,
}

#[derive(Debug, Default)]
struct Used {
    content: Weak<Content>,
    /// The units whose current or accepted version has it.
    units: Few<Short>,
}

/// Fewer are not searched for unused ones.
const SWEPT: usize = 1024;

/// How many rejected contents are remembered. What is forgotten is tried in the bytes that were rejected.
const REFUSED: usize = 10_000;

impl Contents {
    /// The content of a publish, rendered unless it is there, and its stamp.
    pub(super) fn of(
        &mut self,
        publish: &ir::Publish,
        options: &Options,
        clusters: &Clusters,
    ) -> (Arc<Content>, u32) {
        self.sweep();
        let key = Key::of(publish);
        let stamp = self.refused.get(&key).copied().unwrap_or(0);
        let used = self.by_key.entry(key).or_default();
        let content = used.content.upgrade().unwrap_or_else(|| {
            let intern = |rendered| clusters.intern(rendered);
            let content = Arc::new(Content::render(publish, key, options, intern));
            used.content = Arc::downgrade(&content);
            content
        });
        (content, stamp)
    }

    /// Records that Envoys rejected a content with this stamp.
    pub(super) fn refuse(&mut self, key: Key, stamp: u32) {
        if self.refused.len() >= REFUSED && !self.refused.contains_key(&key) {
            self.refused.clear();
        }
        let next = self.refused.entry(key).or_default();
        *next = (*next).max(stamp.wrapping_add(1));
    }

    /// Forgets contents that no publish has any more, once they may be half of all.
    fn sweep(&mut self) {
        if self.by_key.len() > self.limit {
            let is_used = |used: &Used| !used.units.is_empty() || used.content.strong_count() > 0;
            self.by_key.retain(|_, used| is_used(used));
            self.limit = (2 * self.by_key.len()).max(SWEPT);
        }
    }

    /// Records that a unit has it. The first one makes its clusters needed.
    pub(super) fn enter(
        &mut self,
        content: &Arc<Content>,
        unit: (Short, &Unit),
        clusters: &mut Clusters,
        change: &mut Change,
    ) {
        let used = self.by_key.entry(content.key).or_default();
        if used.units.is_empty() {
            for cluster in &content.clusters {
                clusters.enter(cluster, &unit.1.gateway, content.key);
                change.touch_cluster(&cluster.name);
            }
        }
        used.units.insert(unit.0);
    }

    /// Records that a unit no longer has it.
    pub(super) fn leave(
        &mut self,
        content: &Arc<Content>,
        unit: (Short, &Unit),
        clusters: &mut Clusters,
        change: &mut Change,
    ) {
        let Some(used) = self.by_key.get_mut(&content.key) else { return };
        if used.units.remove(&unit.0) && used.units.is_empty() {
            for cluster in &content.clusters {
                clusters.leave(&cluster.name, &unit.1.gateway, content.key);
                change.touch_cluster(&cluster.name);
            }
        }
    }

    /// The units that have it.
    pub(super) fn units(&self, key: Key) -> impl Iterator<Item = Short> {
        self.by_key.get(&key).into_iter().flat_map(|used| used.units.iter().copied())
    }
}
