//! Picks what fits into one response, at a cost that depends on what is sent, not on what is due.

use std::sync::Arc;

use super::TypeStream;
use crate::Resource;
use crate::resource_set::{Found, Position, View};
use crate::rules::Limit;
use crate::stream::due::{Due, Kind};
use crate::stream::fill::Fill;
use crate::stream::required::{Key, Peers};

/// Which names to pick from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Asked,
    Upserts,
}

/// This part of a response is for what changed last, so that a single change does not wait until
/// everything has gone that many others brought.
const SHARE_OF_NEWEST: usize = 4;

/// So many that wait for others are looked at at once, because other streams and changes wait meanwhile.
const LOOKED_AT: usize = 4096;

impl TypeStream {
    /// Picks the resources of one response: those that have waited for the longest time, and some
    /// that changed last.
    pub(super) fn pick(
        &mut self,
        source: Source,
        up_to: Option<Position>,
        peers: Peers<'_>,
        view: &View<'_>,
    ) -> Vec<(Resource, u32)> {
        let mut tried = None;
        self.looks_again = false;
        loop {
            let fill = if source == Source::Upserts { self.first_to_fill(view) } else { None };
            let is_due = |kind: Kind| self.due(source).oldest(kind).is_some() || fill == Some(kind);
            let kinds = [self.turn, self.turn.other()].into_iter().filter(|kind| is_due(*kind));
            let kind = kinds.into_iter().find(|kind| up_to.is_none() || tried != Some(*kind));
            let Some(kind) = kind else { return Vec::new() };
            let batch = Batch::new(self.limit(kind));
            let mut picking = Picking { source, kind, up_to, batch, view, peers };
            self.pick_newest(&mut picking);
            if fill == Some(kind) {
                self.pick_fill_newest(&mut picking);
                self.pick_oldest(self.fill.as_ref().map(Fill::next), &mut picking);
                self.pick_fill(&mut picking);
            }
            self.pick_oldest(None, &mut picking);
            self.turn = kind.other();
            self.looks_again = source == Source::Upserts && picking.batch.passed_over >= LOOKED_AT;
            if !picking.batch.upserts.is_empty() || self.looks_again {
                return picking.batch.upserts;
            }
            // Perhaps what was due has turned out to be of the other kind, or too new.
            if up_to.is_some() && tried.replace(kind).is_some() {
                return Vec::new();
            }
        }
    }

    fn pick_newest(&mut self, picking: &mut Picking<'_, '_>) {
        if !self.rules.limits().tells_proven {
            return;
        }
        let (source, kind, mut too_new) = (picking.source, picking.kind, Vec::new());
        for _ in 0..picking.batch.limit.resources / SHARE_OF_NEWEST {
            let Some(name) = self.due_mut(source).next_news(kind) else { break };
            let found = picking.view.find(&self.rules.type_url, &name);
            if found.is_some_and(|found| picking.is_too_new(found.changed_at)) {
                too_new.extend(found.map(|found| (name, found.changed_at)));
            } else if !self.consider(&name, picking) {
                break;
            }
        }
        let due = self.due_mut(source);
        too_new.into_iter().for_each(|(name, at)| due.note_news(name, at, kind));
    }

    fn pick_oldest(&mut self, before: Option<Position>, picking: &mut Picking<'_, '_>) {
        while !picking.batch.is_full()
            && let Some((since, name)) = self.due(picking.source).oldest(picking.kind)
            && before.is_none_or(|before| since < before)
            && self.consider(&name.clone(), picking)
        {}
    }

    /// The same for what changed last before the client came.
    fn pick_fill_newest(&mut self, picking: &mut Picking<'_, '_>) {
        if !self.rules.limits().tells_proven {
            return;
        }
        let (type_url, view) = (self.rules.type_url.clone(), picking.view);
        let Some(rest) = self.fill.as_ref().map(Fill::rest) else { return };
        let share = picking.batch.limit.resources / SHARE_OF_NEWEST;
        let share = share.saturating_sub(picking.batch.upserts.len());
        for (at, resource) in view.changed_in(&type_url, rest).rev().take(share) {
            if picking.is_too_new(at) || !self.consider_to_fill(at, resource, picking) {
                return;
            }
            self.fill = self.fill.take().and_then(|fill| fill.before(at));
        }
    }

    fn pick_fill(&mut self, picking: &mut Picking<'_, '_>) {
        let (type_url, view) = (self.rules.type_url.clone(), picking.view);
        let Some(rest) = self.fill.as_ref().map(Fill::rest) else { return };
        for (at, resource) in view.changed_in(&type_url, rest) {
            let is_over = picking.batch.is_full() || picking.is_too_new(at);
            if is_over || !self.consider_to_fill(at, resource, picking) {
                return;
            }
            self.fill.iter_mut().for_each(|fill| fill.took(at));
        }
        self.fill = None;
    }

    /// The kind of the first resource to fill with.
    fn first_to_fill(&mut self, view: &View<'_>) -> Option<Kind> {
        let fill = self.fill.as_ref()?;
        let mut rest = view.changed_in(&self.rules.type_url, fill.rest());
        let first = rest.find(|(at, resource)| fill.has(resource.name(), *at));
        let kind = first.map(|(at, resource)| self.kind(&self.found(at, resource, view)));
        if kind.is_none() {
            self.fill = None;
        }
        kind
    }

    /// Takes a resource to fill with into the response if it belongs there. Returns false if it does
    /// not fit.
    fn consider_to_fill(
        &mut self,
        at: Position,
        resource: &Resource,
        picking: &mut Picking<'_, '_>,
    ) -> bool {
        let is_due = self.fill.as_ref().is_some_and(|fill| fill.has(resource.name(), at));
        !is_due || self.judge(self.found(at, resource, picking.view), picking)
    }

    /// A resource of the log. Whether it is proven is looked up only if it matters.
    fn found<'a>(
        &self,
        changed_at: Position,
        resource: &'a Resource,
        view: &View<'_>,
    ) -> Found<'a> {
        let is_proven =
            self.rules.limits().tells_proven && view.is_proven(&self.rules.type_url, resource);
        Found { resource, changed_at, is_proven }
    }

    /// Takes a due name into the response if it belongs there. Returns false if it does not fit.
    fn consider(&mut self, name: &Arc<str>, picking: &mut Picking<'_, '_>) -> bool {
        let Some(found) = picking.view.find(&self.rules.type_url, name) else {
            self.due_mut(picking.source).remove(name);
            if picking.source == Source::Asked && !picking.view.exists(&self.rules.type_url, name) {
                self.missing.insert(name.clone());
            }
            return true;
        };
        if picking.is_too_new(found.changed_at) {
            // What is behind it may be older, if this one has changed since it became due.
            return self.due_mut(picking.source).postpone(name, found.changed_at);
        }
        self.judge(found, picking)
    }

    /// The same for one that exists.
    fn judge(&mut self, found: Found<'_>, picking: &mut Picking<'_, '_>) -> bool {
        let (resource, source) = (found.resource, picking.source);
        let kind = self.kind(&found);
        if kind != picking.kind {
            self.due_mut(source).insert(resource.name().clone(), found.changed_at, kind);
            return true;
        }
        if self.is_refused(resource) {
            self.due_mut(source).remove(resource.name());
            return true;
        }
        if let Some(required) =
            self.blocker(resource, &picking.batch.upserts, picking.peers, picking.view)
        {
            self.due_mut(source).remove(resource.name());
            self.waiting.add(resource.name().clone(), required);
            picking.batch.passed_over += 1;
            return source == Source::Asked || picking.batch.passed_over < LOOKED_AT;
        }
        if !picking.batch.fits(resource.size()) {
            return false;
        }
        self.due_mut(source).remove(resource.name());
        picking.batch.upserts.push(self.picked(resource));
        true
    }

    /// The first required resource that the client does not have (R68).
    pub(super) fn blocker(
        &self,
        resource: &Resource,
        picked: &[(Resource, u32)],
        peers: Peers<'_>,
        view: &View<'_>,
    ) -> Option<Key> {
        let lacks = |(type_url, name): &&Key| {
            let Some(found) = view.find(type_url, name) else { return false };
            if *type_url == self.rules.type_url {
                return !self.client_has(&found) || picked.iter().any(|(r, _)| r.name() == name);
            }
            // Nobody knows what it has on its other streams.
            peers.find(type_url).is_some_and(|of_type| !of_type.client_has(&found))
        };
        resource.required().iter().find(lacks).cloned()
    }

    /// Whether the client has acknowledged the current version, or said that it has it.
    fn client_has(&self, found: &Found<'_>) -> bool {
        let name = found.resource.name();
        if !self.subscription.wants(name) {
            return false;
        }
        let pending = self.scan_due
            || self.is_due(name, found.changed_at)
            || self.waiting.contains(name)
            || self.suspects.attempt(name) > 0
            || self.doubted.contains(name)
            || self.is_refused(found.resource)
            || self.in_flight.as_ref().is_some_and(|in_flight| in_flight.has(name));
        !pending || self.held_at_start.contains(name)
    }

    /// Makes a resource due, with its kind.
    pub(super) fn make_due(&mut self, name: &Arc<str>, view: &View<'_>) -> bool {
        let Some(found) = view.find(&self.rules.type_url, name) else { return false };
        let (at, kind) = (found.changed_at, self.kind(&found));
        if self.fill.as_mut().is_some_and(|fill| fill.again(name, at)) {
            return true;
        }
        self.waiting.remove(name);
        let name = found.resource.name().clone();
        if self.rules.limits().tells_proven {
            self.upserts.insert_news(name, at, kind);
        } else {
            self.upserts.insert(name, at, kind);
        }
        true
    }

    pub(super) fn is_due(&self, name: &str, changed_at: Position) -> bool {
        let to_fill = |fill: &Fill| fill.has(name, changed_at);
        self.asked.contains(name)
            || self.upserts.contains(name)
            || self.fill.as_ref().is_some_and(to_fill)
    }

    pub(super) fn kind(&self, found: &Found<'_>) -> Kind {
        let no_proof = |ask: fn(&Resource) -> bool| ask(found.resource);
        let is_proven = !self.rules.limits().tells_proven
            || found.is_proven
            || self.rules.needs_no_proof.is_some_and(no_proof);
        if is_proven { Kind::Proven } else { Kind::Unproven }
    }

    fn limit(&self, kind: Kind) -> Limit {
        match kind {
            Kind::Unproven => self.rules.limits().unproven,
            Kind::Proven => self.rules.limits().proven,
        }
    }

    fn due(&self, source: Source) -> &Due {
        match source {
            Source::Asked => &self.asked,
            Source::Upserts => &self.upserts,
        }
    }

    fn due_mut(&mut self, source: Source) -> &mut Due {
        match source {
            Source::Asked => &mut self.asked,
            Source::Upserts => &mut self.upserts,
        }
    }

    pub(super) fn picked(&self, resource: &Resource) -> (Resource, u32) {
        let attempt = self.suspects.attempt(resource.name());
        (resource.clone(), self.attempt.saturating_add(attempt))
    }

    pub(in crate::stream) fn is_refused(&self, resource: &Resource) -> bool {
        let refused = self.refused.get(resource.name());
        refused.is_some_and(|version| version == resource.version())
    }
}

/// A response in the making, and what is needed to judge its members.
struct Picking<'a, 'v> {
    source: Source,
    kind: Kind,
    /// The last change that may go.
    up_to: Option<Position>,
    batch: Batch,
    view: &'a View<'v>,
    peers: Peers<'a>,
}

impl Picking<'_, '_> {
    fn is_too_new(&self, changed_at: Position) -> bool {
        self.up_to.is_some_and(|up_to| changed_at > up_to)
    }
}

/// One resource always fits.
struct Batch {
    limit: Limit,
    bytes: usize,
    upserts: Vec<(Resource, u32)>,
    /// How many were passed over because they wait for others.
    passed_over: usize,
}

impl Batch {
    fn new(limit: Limit) -> Self {
        Self { limit, bytes: 0, upserts: Vec::new(), passed_over: 0 }
    }

    fn is_full(&self) -> bool {
        self.upserts.len() >= self.limit.resources.max(1)
    }

    fn fits(&mut self, bytes: usize) -> bool {
        let sum = self.bytes.saturating_add(bytes);
        let fits = !self.is_full() && (self.upserts.is_empty() || sum <= self.limit.bytes);
        if fits {
            self.bytes = sum;
        }
        fits
    }
}
