//! A unit: what Envoy accepts or rejects as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::prepared::{Members, Prepared, member};
use crate::xds::content::Key;
use crate::xds::names::Place;

#[derive(Debug)]
pub(super) struct Unit {
    /// The gateway that had the place first. It is nobody else's while the unit is there.
    pub(super) gateway: Arc<str>,
    pub(super) place: Place,
    /// Of its resource.
    pub(super) name: Arc<str>,
    /// Whether it stays without members.
    pub(super) stays: bool,
    /// What should be in it.
    pub(super) members: Members,
    /// Members that wait while Envoy judges the others.
    held: BTreeSet<Arc<str>>,
    /// The version and content of its resource.
    pub(super) current: Option<Arc<Sent>>,
    /// Versions since the last accepted one, the current one last.
    pending: Vec<Arc<Sent>>,
    /// The version that Envoy last accepted.
    pub(super) accepted: Option<Arc<Sent>>,
    /// What it shares with others if they want it, too.
    pub(super) key: Option<Key>,
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) version: Arc<str>,
    pub(super) members: Members,
    /// The table that it names.
    pub(super) table: Option<Key>,
}

/// Verdicts come for the newest version or not at all; a few older ones may be on their way.
const MAX_PENDING: usize = 16;

impl Unit {
    pub(super) fn new(gateway: &Arc<str>, place: Place) -> Self {
        Self {
            gateway: gateway.clone(),
            name: place.name().into(),
            place,
            stays: false,
            members: Arc::default(),
            held: BTreeSet::new(),
            current: None,
            pending: Vec::new(),
            accepted: None,
            key: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && !self.stays
    }

    pub(super) fn join(&mut self, new: Arc<Prepared>) {
        let place = self.members.partition_point(|member| member.id < new.id);
        let (before, after) = self.members.split_at(place);
        let after = after.iter().skip_while(|member| member.id == new.id);
        self.members = before.iter().cloned().chain([new.clone()]).chain(after.cloned()).collect();
    }

    pub(super) fn leave(&mut self, id: &str) {
        self.members = self.members.iter().filter(|member| *member.id != *id).cloned().collect();
        self.held.remove(id);
    }

    pub(super) fn is_current(&self, version: &str) -> bool {
        self.current.as_ref().is_some_and(|sent| *sent.version == *version)
    }

    pub(super) fn serving_ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.current.iter().flat_map(|sent| sent.members.iter().map(|member| &member.id))
    }

    /// Its resource, if that serves exactly this.
    pub(super) fn serving(&self, prepared: &Prepared) -> Option<&Sent> {
        let sent = self.current.as_deref()?;
        let member = member(&sent.members, &prepared.id)?;
        member.serves_as(prepared).then_some(sent)
    }

    /// Whether Envoy accepted this.
    pub(super) fn has_accepted(&self, prepared: &Prepared) -> bool {
        let accepted = self.accepted.as_ref();
        let accepted = accepted.and_then(|sent| member(&sent.members, &prepared.id));
        accepted.is_some_and(|member| member.serves_as(prepared))
    }

    /// Members whose content differs from what Envoy has accepted. In the order of their paths, so
    /// that units with equal members are searched alike.
    pub(super) fn suspects(&self) -> Vec<Arc<str>> {
        let current = self.current.iter().flat_map(|sent| sent.members.iter());
        let mut new: Vec<_> = current.filter(|member| !self.has_accepted(member)).collect();
        new.sort_by(|a, b| (&a.content.base_path, &a.id).cmp(&(&b.content.base_path, &b.id)));
        new.into_iter().map(|member| member.id.clone()).collect()
    }

    pub(super) fn hold(&mut self, ids: impl IntoIterator<Item = Arc<str>>) {
        self.held.extend(ids);
    }

    pub(super) fn release(&mut self) -> bool {
        !std::mem::take(&mut self.held).is_empty()
    }

    /// Records that Envoy accepted a version. Returns false if it is not one of the latest.
    pub(super) fn accept(&mut self, version: &str) -> bool {
        let Some(at) = self.pending.iter().position(|sent| *sent.version == *version) else {
            return false;
        };
        if let Some(sent) = self.pending.drain(..=at).next_back() {
            self.accepted = Some(sent);
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        true
    }

    /// The members to render: those that are held with what Envoy accepted of them, if anything.
    pub(super) fn wanted(&self) -> Members {
        if self.held.is_empty() {
            return self.members.clone();
        }
        let accepted = |id: &str| self.accepted.as_ref().and_then(|it| member(&it.members, id));
        let wanted = |of_it: &Arc<Prepared>| match self.held.contains(&of_it.id) {
            true => accepted(&of_it.id).cloned(),
            false => Some(of_it.clone()),
        };
        self.members.iter().filter_map(wanted).collect()
    }

    pub(super) fn holds_some(&self) -> bool {
        !self.held.is_empty()
    }

    /// Makes `next` current. Returns whether Envoy has it already.
    pub(super) fn advance(&mut self, next: Sent) -> bool {
        if let Some(accepted) = self.accepted.as_mut().filter(|sent| sent.version == next.version) {
            let of_accepted = Sent { members: next.members.clone(), ..(**accepted).clone() };
            *accepted = Arc::new(of_accepted);
            self.pending = Vec::new();
            self.current = Some(Arc::new(next));
            return true;
        }
        let next = Arc::new(next);
        self.pending.push(next.clone());
        if self.pending.len() > MAX_PENDING {
            self.pending.remove(0);
        }
        self.current = Some(next);
        false
    }

    /// Records other members of a version that has the same bytes with them: other revisions with the
    /// same content, or other publishes.
    pub(super) fn renew(&mut self, version: &str, members: &Members) {
        let versions = self.pending.iter_mut().chain(&mut self.current).chain(&mut self.accepted);
        let mut renewed: Option<(Arc<Sent>, Arc<Sent>)> = None;
        for sent in versions.filter(|sent| *sent.version == *version) {
            // What was one stays one.
            match &renewed {
                Some((before, after)) if Arc::ptr_eq(before, sent) => *sent = after.clone(),
                _ => {
                    let after = Arc::new(Sent { members: members.clone(), ..(**sent).clone() });
                    renewed = Some((std::mem::replace(sent, after.clone()), after));
                }
            }
        }
    }

    /// Records that it has no resource.
    pub(super) fn clear(&mut self) {
        self.current = None;
        self.pending = Vec::new();
        self.accepted = None;
    }

    /// The versions that Envoys may serve: the accepted one until the current one is accepted.
    pub(super) fn uses(&self) -> [Option<Arc<Sent>>; 2] {
        [self.current.clone(), self.accepted.clone()]
    }
}
