//! One type on one stream: what is due, what is under way, what was refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::subscription::{Changed, Subscription};
use super::{Answer, Response};
use crate::wire::DeltaDiscoveryRequest;
use crate::{Batching, Resource, Revision, SentResource, TypeRules, World};

/// One type on one stream.
#[derive(Debug)]
pub struct TypeStream {
    rules: TypeRules,
    subscription: Subscription,
    /// The world's revision up to which changes are in the sets below.
    seen: Revision,
    /// Asked for by name: answered before anything else.
    asked: BTreeSet<Arc<str>>,
    upserts: BTreeSet<Arc<str>>,
    removals: BTreeSet<Arc<str>>,
    /// A first wildcard request is answered even if there is nothing (R39).
    answer_due: bool,
    in_flight: Option<InFlight>,
    /// Versions that the client refused: never sent again unchanged (R33).
    refused: HashMap<Arc<str>, Arc<str>>,
    /// Members of a refused batch, with the number of attempts: sent one by one (R34).
    alone: HashMap<Arc<str>, u32>,
    removal_since: Option<Instant>,
    counts: Counts,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    since: Instant,
    resources: Vec<SentResource>,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted.
    pub acked: u64,
    /// Responses refused.
    pub nacked: u64,
}

/// The content of a response to be.
#[derive(Debug, Default)]
pub(super) struct Content {
    upserts: Vec<(Resource, u32)>,
    removals: Vec<Arc<str>>,
}

impl Content {
    fn into_option(self) -> Option<Self> {
        if self.upserts.is_empty() && self.removals.is_empty() { None } else { Some(self) }
    }
}

impl TypeStream {
    pub(super) fn new(rules: TypeRules) -> Self {
        Self {
            rules,
            subscription: Subscription::default(),
            seen: 0,
            asked: BTreeSet::new(),
            upserts: BTreeSet::new(),
            removals: BTreeSet::new(),
            answer_due: false,
            in_flight: None,
            refused: HashMap::new(),
            alone: HashMap::new(),
            removal_since: None,
            counts: Counts::default(),
        }
    }

    /// How this type is served.
    pub fn rules(&self) -> &TypeRules {
        &self.rules
    }

    /// Responses so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether everything is wanted, and how many names are.
    pub fn subscribed(&self) -> (bool, usize) {
        (self.subscription.is_wildcard(), self.subscription.names())
    }

    /// Changes that wait to be sent.
    pub fn pending(&self) -> usize {
        self.asked.len() + self.upserts.len() + self.removals.len()
    }

    /// Names and versions that the client refused and that nothing has replaced yet.
    pub fn refused(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.refused.iter()
    }

    /// Since when a response has not been answered.
    pub fn in_flight_since(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(|f| f.since)
    }

    pub(super) fn removal_since(&self) -> Option<Instant> {
        self.removal_since
    }

    pub(super) fn has_work(&self) -> bool {
        self.pending() > 0 || self.answer_due
    }

    pub(super) fn holds_up_others(&self, now: Instant, barrier: Duration) -> bool {
        self.is_waiting(now, barrier) || (self.in_flight.is_none() && !self.upserts.is_empty())
    }

    pub(super) fn removals_hold_up_others(&self, now: Instant, barrier: Duration) -> bool {
        self.is_waiting(now, barrier) || (self.in_flight.is_none() && !self.removals.is_empty())
    }

    fn is_waiting(&self, now: Instant, barrier: Duration) -> bool {
        self.in_flight_since().is_some_and(|since| now < since + barrier)
    }

    /// The answer to the response under way, if the request is one. A stale nonce answers nothing,
    /// and takes nothing from the rest of the request (R31).
    pub(super) fn answer(
        &mut self,
        request: &DeltaDiscoveryRequest,
        world: &World,
    ) -> Option<Answer> {
        let in_flight = self.in_flight.take_if(|f| f.nonce == request.response_nonce)?;
        let refusal = request.error_detail.as_ref().map(|status| status.message.clone());
        if refusal.is_some() {
            self.counts.nacked += 1;
            self.refuse(&in_flight.resources, world);
        } else {
            self.counts.acked += 1;
            self.accept(&in_flight.resources, world);
        }
        Some(Answer {
            type_url: self.rules.type_url.clone(),
            resources: in_flight.resources,
            refusal,
        })
    }

    fn accept(&mut self, resources: &[SentResource], world: &World) {
        for resource in resources {
            self.alone.remove(&resource.name);
            self.refused.remove(&resource.name);
            if let (Batching::Single, Some(version)) = (self.rules.batching, &resource.version) {
                world.mark_proven(&self.rules.type_url, &resource.name, version);
            }
        }
    }

    /// One resource: it is the culprit. Several: each has to show for itself.
    fn refuse(&mut self, resources: &[SentResource], world: &World) {
        for SentResource { name, version } in resources {
            let Some(version) = version else { continue };
            world.mark_unproven(&self.rules.type_url, name);
            if resources.len() == 1 {
                self.refused.insert(name.clone(), version.clone());
            } else {
                *self.alone.entry(name.clone()).or_default() += 1;
                self.upserts.insert(name.clone());
            }
        }
    }

    /// Takes the subscription part of a request; returns what the client need not be sent.
    pub(super) fn subscribe(
        &mut self,
        request: &DeltaDiscoveryRequest,
        world: &World,
    ) -> Vec<SentResource> {
        let subscribe = &request.resource_names_subscribe;
        let unsubscribe = &request.resource_names_unsubscribe;
        let changed = self.subscription.update(subscribe, unsubscribe, self.rules.legacy_wildcard);
        let held = if changed.became_wildcard {
            self.start_wildcard(&request.resource_initial(), world)
        } else {
            Vec::new()
        };
        self.follow(changed);
        held
    }

    fn follow(&mut self, changed: Changed) {
        for name in &changed.asked {
            self.refused.remove(name); // asked for again: a new request (R33)
        }
        self.asked.extend(changed.asked);
        for name in &changed.dropped {
            self.asked.remove(name);
        }
        if changed.ended_wildcard || !changed.dropped.is_empty() {
            let Self { subscription, upserts, removals, .. } = self;
            upserts.retain(|name| subscription.wants(name));
            removals.retain(|name| subscription.wants(name));
        }
    }

    /// Compares what the client says it holds with the world (R37).
    fn start_wildcard(&mut self, held: &HashMap<&str, &str>, world: &World) -> Vec<SentResource> {
        self.seen = world.revision();
        self.answer_due = true;
        let type_url = &self.rules.type_url;
        let mut same = Vec::new();
        for name in world.names(type_url) {
            match world.get(type_url, &name) {
                Some(r) if held.get(&*name) == Some(&&**r.version()) => {
                    same.push(SentResource { name, version: Some(r.version().clone()) });
                }
                _ => {
                    self.upserts.insert(name);
                }
            }
        }
        let gone = held.keys().filter(|name| world.get(type_url, name).is_none());
        self.removals.extend(gone.map(|&name| Arc::from(name)));
        same
    }

    /// Looks at what changed in the world since the last time: cost follows the changes.
    pub(super) fn absorb(&mut self, world: &World) {
        let newest = world.revision();
        if newest == self.seen {
            return;
        }
        for name in world.changed_since(&self.rules.type_url, self.seen) {
            if !self.subscription.wants(&name) {
                continue;
            }
            match world.get(&self.rules.type_url, &name) {
                Some(_) => {
                    self.removals.remove(&name);
                    self.upserts.insert(name);
                }
                None => {
                    self.upserts.remove(&name);
                    self.removals.insert(name);
                }
            }
        }
        self.seen = newest;
    }

    pub(super) fn take_asked(&mut self, world: &World) -> Option<Content> {
        if self.in_flight.is_some() || self.asked.is_empty() {
            return None;
        }
        let mut asked = std::mem::take(&mut self.asked);
        let missing: Vec<_> = asked
            .iter()
            .filter(|n| world.get(&self.rules.type_url, n).is_none())
            .cloned()
            .collect();
        let upserts = self.pick(&mut asked, world);
        for name in &missing {
            asked.remove(name);
        }
        self.asked = asked;
        for (resource, _) in &upserts {
            self.upserts.remove(resource.name());
        }
        for name in &missing {
            self.removals.remove(name);
        }
        let removals = if self.rules.never_remove { Vec::new() } else { missing };
        Content { upserts, removals }.into_option()
    }

    pub(super) fn take_upserts(&mut self, world: &World) -> Option<Content> {
        if self.in_flight.is_some() {
            return None;
        }
        let mut due = std::mem::take(&mut self.upserts);
        let upserts = self.pick(&mut due, world);
        self.upserts = due;
        let content = Content { upserts, removals: Vec::new() };
        if std::mem::take(&mut self.answer_due) { Some(content) } else { content.into_option() }
    }

    pub(super) fn take_removals(
        &mut self,
        world: &World,
        now: Instant,
        wait: Duration,
    ) -> Option<Content> {
        if self.rules.never_remove {
            self.removals.clear();
        }
        if self.in_flight.is_some() || self.removals.is_empty() {
            return None;
        }
        if now < *self.removal_since.get_or_insert(now) + wait {
            return None;
        }
        self.removal_since = None;
        let due = std::mem::take(&mut self.removals);
        let removals: Vec<_> =
            due.into_iter().filter(|n| world.get(&self.rules.type_url, n).is_none()).collect();
        for name in &removals {
            self.refused.remove(name);
            self.alone.remove(name);
        }
        Content { upserts: Vec::new(), removals }.into_option()
    }

    /// Takes out of `due` what one response may hold: everything, or everything proven, or one.
    /// Names that have nothing to send (refused unchanged, or gone) are taken out and dropped.
    fn pick(&self, due: &mut BTreeSet<Arc<str>>, world: &World) -> Vec<(Resource, u32)> {
        let mut picked = Vec::new();
        let mut later = BTreeSet::new();
        while let Some(name) = due.pop_first() {
            let Some(resource) = self.sendable(&name, world) else { continue };
            let attempt = self.alone.get(&name).copied().unwrap_or(0);
            let batched = attempt == 0 && self.may_batch(&resource, world);
            match (batched, picked.is_empty()) {
                (false, true) => {
                    picked.push((resource, attempt));
                    break;
                }
                (false, false) => {
                    later.insert(name);
                }
                (true, _) => picked.push((resource, attempt)),
            }
        }
        due.append(&mut later);
        picked
    }

    fn may_batch(&self, resource: &Resource, world: &World) -> bool {
        self.rules.batching == Batching::All || world.is_proven(&self.rules.type_url, resource)
    }

    fn sendable(&self, name: &Arc<str>, world: &World) -> Option<Resource> {
        let resource = world.get(&self.rules.type_url, name)?;
        let refused = self.refused.get(name).is_some_and(|version| version == resource.version());
        (!refused).then_some(resource)
    }

    pub(super) fn send(&mut self, content: Content, nonce: String, now: Instant) -> Response {
        self.counts.sent += 1;
        let Content { upserts, removals } = content;
        let response = Response { type_url: self.rules.type_url.clone(), nonce, upserts, removals };
        self.in_flight = Some(InFlight {
            nonce: response.nonce.clone(),
            since: now,
            resources: response.sent(),
        });
        response
    }
}

impl DeltaDiscoveryRequest {
    fn resource_initial(&self) -> HashMap<&str, &str> {
        self.initial_resource_versions.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Change;

    #[test]
    fn r37_what_is_held_in_the_worlds_version_is_told_and_not_sent() {
        let world = World::new();
        let mut change = Change::default();
        change.upsert("t", Resource::new("same", "1", Bytes::new()));
        change.upsert("t", Resource::new("changed", "2", Bytes::new()));
        world.apply(change);
        let mut of_type = TypeStream::new(TypeRules::new("t", 0));
        let held = ["same", "changed", "gone"].map(|name| (name.to_owned(), "1".to_owned()));
        let request = DeltaDiscoveryRequest {
            initial_resource_versions: held.into_iter().collect(),
            ..Default::default()
        };
        let held = of_type.subscribe(&request, &world);
        assert_eq!(held, [SentResource { name: "same".into(), version: Some("1".into()) }]);
        let content = of_type.take_upserts(&world).expect("a change");
        assert_eq!(
            content.upserts.iter().map(|(r, _)| &**r.name()).collect::<Vec<_>>(),
            ["changed"]
        );
    }
}
