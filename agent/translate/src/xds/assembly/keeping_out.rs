//! Hosts that a wildcard does not take: those below it that other tenants hold. The module knows them as
//! hosts, so that the longest name decides, and Envoy has no scope for them unless somebody serves them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imp_grammar::hosts::is_wildcard;

use super::change::Change;
use super::delta::Delta;
use super::prepared::Prepared;
use crate::xds::names::Place;

/// The places that are kept out, with the publishes whose wildcards they are kept out of.
#[derive(Debug, Default)]
pub(super) struct KeptOut {
    by_place: BTreeMap<Place, BTreeSet<Arc<str>>>,
    by_publish: BTreeMap<Arc<str>, BTreeSet<Place>>,
}

impl KeptOut {
    /// Adds to a delta what has become of these places.
    pub(super) fn settle(&self, places: &BTreeSet<Place>, delta: &mut Delta) {
        delta.kept_out = places.iter().map(|it| (it.clone(), self.has(it))).collect();
    }

    /// Keeps hosts out of the wildcards that a publish has at these places.
    pub(super) fn keep_out<'a>(
        &mut self,
        publish: &str,
        prepared: Option<&Prepared>,
        wanted: impl Iterator<Item = &'a Place>,
        change: &mut Change,
    ) {
        let hosts = prepared.and_then(|it| it.kept_out.as_deref()).unwrap_or_default();
        let has_wildcard = |place: &&Place| place.host.as_deref().is_some_and(is_wildcard);
        let ports: BTreeSet<u16> = wanted.filter(has_wildcard).map(|place| place.port).collect();
        let at = |port: u16| hosts.iter().map(move |it| Place { port, host: Some(it.clone()) });
        self.set(publish, ports.into_iter().flat_map(at).collect(), change);
    }

    /// Whether a place is kept out of some wildcard.
    pub(super) fn has(&self, place: &Place) -> bool {
        self.by_place.contains_key(place)
    }

    fn set(&mut self, publish: &str, places: BTreeSet<Place>, change: &mut Change) {
        let before = self.by_publish.remove(publish).unwrap_or_default();
        let id: Arc<str> = publish.into();
        for place in before.difference(&places) {
            if let Some(publishes) = self.by_place.get_mut(place) {
                publishes.remove(&id);
                if publishes.is_empty() {
                    self.by_place.remove(place);
                }
            }
            change.kept_out.insert(place.clone());
        }
        for place in places.difference(&before) {
            self.by_place.entry(place.clone()).or_default().insert(id.clone());
            change.kept_out.insert(place.clone());
        }
        if !places.is_empty() {
            self.by_publish.insert(id, places);
        }
    }
}
