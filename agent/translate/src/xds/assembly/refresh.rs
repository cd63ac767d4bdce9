//! Renders units again and updates their clusters.

use super::Assembly;
use super::change::Change;
use super::prepared::UnitKey;
use super::unit::Sent;

impl Assembly {
    /// Renders a unit again and records the changes.
    pub(super) fn refresh(&mut self, key: &UnitKey, change: &mut Change) {
        let keep_empty = self.places.stays_empty(key);
        if keep_empty {
            self.units.entry(key.clone()).or_default();
        }
        let Some(unit) = self.units.get_mut(key) else { return };
        loop {
            let content = unit.wanted();
            if content.is_empty() && unit.held.is_empty() && !keep_empty {
                break;
            }
            if content.is_empty() && !keep_empty {
                // All members wait: try some.
                unit.release();
                continue;
            }
            let rendered = key.render(&content);
            if unit.is_current(&rendered.version) {
                if let Some(current) = &mut unit.current {
                    current.content = content;
                }
                break;
            }
            let version = rendered.version.clone();
            change.upsert(&key.gateway, rendered);
            // Envoy sends no verdict for what it already has, so nothing may wait for one.
            if !unit.advance(Sent { version, content }) || !unit.release() {
                break;
            }
        }
        if unit.members.is_empty() && !keep_empty {
            if unit.current.take().is_some() {
                change.remove(&key.gateway, key.place.type_url(), &key.place.name());
            }
            unit.accepted = None;
        }
        self.settle_clusters(key, change);
    }

    /// Updates the users of clusters after a change of a unit.
    pub(super) fn settle_clusters(&mut self, key: &UnitKey, change: &mut Change) {
        let Some(unit) = self.units.get_mut(key) else { return };
        let needed = unit.needed();
        for (name, rendered) in &needed {
            if unit.clusters.insert(name.clone()) {
                self.clusters.enter(rendered, key);
                change.touch_cluster(name);
            }
        }
        for name in unit.clusters.extract_if(.., |name| !needed.contains_key(name)) {
            self.clusters.leave(&name, key);
            change.touch_cluster(&name);
        }
        if unit.members.is_empty() && unit.current.is_none() {
            self.units.remove(key);
        }
    }
}
