//! What a request, or a change of the resource set, makes due.

use std::collections::HashMap;
use std::sync::Arc;

use super::TypeStream;
use crate::Resource;
use crate::resource_set::{Position, View};
use crate::stream::fill::Fill;
use crate::stream::required::Key;
use crate::stream::subscription::{Changed, Glob};
use crate::stream::{Entry, SentResource};
use crate::wire::DeltaDiscoveryRequest;

impl TypeStream {
    /// Handles the subscription part of a request; returns what need not be sent to the client.
    pub(in crate::stream) fn subscribe(
        &mut self,
        request: &DeltaDiscoveryRequest,
        view: &View<'_>,
    ) -> Vec<SentResource> {
        let first = !self.subscription.started();
        let subscribe = &request.resource_names_subscribe;
        let unsubscribe = &request.resource_names_unsubscribe;
        let changed = self.subscription.update(subscribe, unsubscribe, self.rules.legacy_wildcard);
        // Envoy opens the stream for virtual hosts like that. The answer proves that the server
        // listens.
        self.answer_due |= changed.is_bare;
        let mut same = Vec::new();
        if changed.became_wildcard && first {
            let versions = request.initial_resource_versions.iter();
            let held = versions.map(|(n, v)| (n.as_str(), v.as_str())).collect();
            same = self.start_wildcard(&held, view);
        } else if changed.became_wildcard {
            // Only the first request of a type may name what was held before the stream (R37).
            self.scan_due = true;
        }
        if first {
            self.begin(!request.initial_resource_versions.is_empty(), view);
            let held = request.initial_resource_versions.iter();
            let held = held.filter_map(|(name, version)| {
                let now = view.get(&self.rules.type_url, name)?;
                (&**now.version() == version).then(|| now.name().clone())
            });
            self.held_at_start = held.collect();
        }
        self.follow(changed, view);
        same
    }

    pub(super) fn follow(&mut self, changed: Changed, view: &View<'_>) {
        for mut name in changed.asked {
            if let Some(behind) = view.alias(&self.rules.type_url, &name)
                && self.subscription.has(&name)
            {
                self.subscription.link(&name, behind);
                name = behind.clone();
            }
            if let Some(resource) = view.get(&self.rules.type_url, &name) {
                self.subscription.share(resource.name());
                name = resource.name().clone();
            }
            self.refused.remove(&name); // asked for again: a new request (R33)
            self.suspects.release(&name);
            self.ask(name, view);
        }
        self.answer_due &= !changed.ended_wildcard;
        self.scan_due &= self.subscription.is_wildcard();
        if changed.ended_wildcard {
            self.filling = None;
            self.end_fill(view);
        }
        if changed.ended_wildcard || !changed.dropped.is_empty() {
            self.drop_unwanted();
        }
    }

    /// Makes a requested name due.
    pub(super) fn ask(&mut self, name: Arc<str>, view: &View<'_>) {
        let type_url = &self.rules.type_url;
        if let Some(found) = view.find(type_url, &name) {
            let kind = self.kind(&found);
            self.waiting.remove(&name);
            self.asked.insert(name, found.changed_at, kind);
        } else if !view.exists(type_url, &name) {
            self.missing.insert(name);
        }
    }

    /// The client subscribes to everything no longer: what it subscribes to by name stays due.
    fn end_fill(&mut self, view: &View<'_>) {
        let Some(fill) = self.fill.take() else { return };
        let names: Vec<_> = self.subscription.list().cloned().collect();
        for name in names {
            let found = view.find(&self.rules.type_url, &name);
            if found.is_some_and(|found| fill.has(&name, found.changed_at)) {
                self.make_due(&name, view);
            }
        }
    }

    fn drop_unwanted(&mut self) {
        let Self { subscription, asked, missing, upserts, waiting, removals, former, .. } = self;
        let Self { leaving, refused, suspects, heartbeats, held_at_start, doubted, .. } = self;
        asked.retain(|name| subscription.wants(name));
        missing.retain(|name| subscription.wants(name));
        upserts.retain(|name| subscription.wants(name));
        waiting.retain(|name| subscription.wants(name));
        removals.retain(|name, _| subscription.wants(name));
        former.retain(|name| subscription.wants(name));
        leaving.retain(|name, _| subscription.wants(name));
        refused.retain(|name, _| subscription.wants(name));
        suspects.retain(|name| subscription.wants(name));
        heartbeats.retain(|name| subscription.wants(name));
        held_at_start.retain(|name| subscription.wants(name));
        doubted.retain(|name| subscription.wants(name));
    }

    /// Scans everything, when it can be sent: for a new wildcard, and for requested collections,
    /// which stand for their members, or for themselves if they have none, so that they are
    /// answered (R14, R20).
    pub(in crate::stream) fn catch_up(&mut self, view: &View<'_>) {
        if self.in_flight.is_some() {
            return;
        }
        if std::mem::take(&mut self.scan_due) {
            self.start_wildcard(&HashMap::new(), view);
        }
        let globs: Vec<_> = self.missing.iter().filter_map(Glob::parse).collect();
        for glob in globs {
            let all = view.each(&self.rules.type_url).map(Resource::name);
            let members: Vec<_> = all.filter(|name| glob.matches(name)).cloned().collect();
            if !members.is_empty() {
                self.missing.remove(glob.text());
                members.into_iter().for_each(|name| self.ask(name, view));
            }
        }
    }

    /// Compares what the client has with the resource set (R37).
    fn start_wildcard(&mut self, held: &HashMap<&str, &str>, view: &View<'_>) -> Vec<SentResource> {
        (self.answer_due, self.filling) = (true, Some(view.position()));
        if held.is_empty() {
            self.start_fill(view);
            return Vec::new();
        }
        let type_url = self.rules.type_url.clone();
        let mut same = Vec::new();
        for (_, resource) in view.changed_in(&type_url, 0..=view.position()) {
            let (name, version) = (resource.name(), resource.version());
            if held.get(&**name) == Some(&&**version) {
                same.push(SentResource(Entry::Unchanged(resource.clone())));
                self.heartbeats.hold(resource, None);
            } else {
                self.suspects.clear(name);
                self.make_due(name, view);
            }
        }
        let gone = held.keys().filter(|name| !view.exists(&type_url, name));
        self.removals.extend(gone.map(|&name| (Arc::from(name), None)));
        same
    }

    /// The client has nothing: everything becomes due.
    fn start_fill(&mut self, view: &View<'_>) {
        let count = view.count(&self.rules.type_url);
        self.fill = (count > 0).then(|| Fill::new(view.position(), count));
        (self.upserts, self.waiting) = Default::default();
        self.suspects.clear_all();
    }

    /// Whether some of the first answer is still to be sent, which has everything up to this
    /// position.
    pub(super) fn has_to_fill(&self, until: Position) -> bool {
        self.fill.is_some() || self.upserts.has_since(until)
    }

    /// Reads the changes of the resource set, at a cost proportional to them. Returns whether they
    /// concern the client.
    pub(in crate::stream) fn absorb(&mut self, view: &View<'_>, since: Position) -> bool {
        let mut concerned = false;
        let type_url = self.rules.type_url.clone();
        for name in view.changed_since(&type_url, since) {
            let now = view.get(&type_url, name);
            for alias in now.map(Resource::aliases).unwrap_or_default() {
                if self.subscription.has(alias) {
                    self.subscription.link(alias, name);
                }
            }
            if !self.subscription.wants(name) {
                continue;
            }
            concerned = true;
            self.suspects.clear(name);
            self.held_at_start.remove(name);
            if now.is_some() {
                self.removals.remove(name);
                self.leaving.remove(name);
                self.make_due(name, view);
            } else if view.exists(&type_url, name) {
                // Retained: the client keeps what it has.
                self.removals.remove(name);
            } else {
                self.absorb_removal(name, view);
            }
        }
        concerned
    }

    fn absorb_removal(&mut self, name: &Arc<str>, view: &View<'_>) {
        self.upserts.remove(name);
        self.waiting.remove(name);
        self.heartbeats.forget(name);
        self.removals.insert(name.clone(), None);
        let last = view.removed(&self.rules.type_url, name);
        if let Some(last) = last.filter(|_| self.sends_full_state()) {
            self.leaving.insert(name.clone(), last.clone());
        }
    }

    /// Makes due again what waits for this resource.
    pub(in crate::stream) fn release(&mut self, required: &Key, view: &View<'_>) {
        for name in self.waiting.release(required) {
            self.make_due(&name, view);
        }
    }

    /// Makes due again what waits for a resource of this type.
    pub(in crate::stream) fn release_type(&mut self, type_url: &crate::TypeUrl, view: &View<'_>) {
        for name in self.waiting.release_type(type_url) {
            self.make_due(&name, view);
        }
    }

    /// Sends a child again because its parent is sent. Returns true if the client has yet to
    /// request it.
    pub(in crate::stream) fn follow_parent(&mut self, name: &Arc<str>, view: &View<'_>) -> bool {
        let exists = view.get(&self.rules.type_url, name).is_some();
        let wanted = self.subscription.wants(name);
        if exists && wanted {
            self.make_due(name, view);
        }
        exists && !wanted
    }

    /// Sends the subscribed names of a parent again, because the parent is sent (R70).
    pub(in crate::stream) fn follow_prefix(&mut self, parent: &str, view: &View<'_>) {
        let of_parent = |name: &str| name.rsplit_once('/').is_some_and(|(of, _)| of == parent);
        let names = self.subscription.list().filter(|name| of_parent(name));
        let names: Vec<_> = names.cloned().collect();
        for name in names {
            self.make_due(&name, view);
        }
    }
}
