//! A unit: what Envoy accepts or rejects as a whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::prepared::{Composition, Prepared};
use crate::xds::Rendered;

#[derive(Debug, Default)]
pub(super) struct Unit {
    /// What should be in it.
    pub(super) members: Composition,
    /// Members that wait while Envoy judges the others.
    pub(super) held: BTreeSet<String>,
    /// The version and content of its resource.
    pub(super) current: Option<Sent>,
    /// Versions since the last accepted one, the current one last.
    pending: VecDeque<Sent>,
    /// The version that Envoy last accepted.
    pub(super) accepted: Option<Sent>,
    /// Clusters of `current` and of `accepted`.
    pub(super) clusters: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) version: String,
    pub(super) content: Composition,
}

/// Verdicts come for the newest version or not at all; a few older ones may be on their way.
const MAX_PENDING: usize = 16;

fn same(a: &Arc<Prepared>, b: &Arc<Prepared>) -> bool {
    Arc::ptr_eq(a, b) || a.publish == b.publish
}

impl Unit {
    pub(super) fn join(&mut self, id: &str, member: Arc<Prepared>) {
        self.members.insert(id.to_owned(), member);
    }

    pub(super) fn leave(&mut self, id: &str) {
        self.members.remove(id);
        self.held.remove(id);
    }

    pub(super) fn is_current(&self, version: &str) -> bool {
        self.current.as_ref().is_some_and(|sent| sent.version == version)
    }

    pub(super) fn serving_ids(&self) -> Vec<String> {
        self.current.iter().flat_map(|sent| sent.content.keys().cloned()).collect()
    }

    /// The resource's version, if it holds exactly this revision of a publish.
    pub(super) fn serving(&self, id: &str, prepared: &Arc<Prepared>) -> Option<String> {
        let sent = self.current.as_ref()?;
        let member = sent.content.get(id)?;
        same(member, prepared).then(|| sent.version.clone())
    }

    /// Whether Envoy accepted this revision of a publish.
    pub(super) fn has_accepted(&self, id: &str, prepared: &Arc<Prepared>) -> bool {
        let accepted = self.accepted.as_ref().and_then(|sent| sent.content.get(id));
        accepted.is_some_and(|member| same(member, prepared))
    }

    /// Members whose content differs from what Envoy has accepted.
    pub(super) fn suspects(&self) -> Vec<String> {
        let current = self.current.iter().flat_map(|sent| &sent.content);
        let new = current.filter(|(id, member)| !self.has_accepted(id, member));
        new.map(|(id, _)| id.clone()).collect()
    }

    pub(super) fn hold(&mut self, ids: impl IntoIterator<Item = String>) {
        self.held.extend(ids);
    }

    pub(super) fn release(&mut self) -> bool {
        !std::mem::take(&mut self.held).is_empty()
    }

    /// Records that Envoy accepted a version. Returns false if it is not one of the latest.
    pub(super) fn accept(&mut self, version: &str) -> bool {
        let Some(at) = self.pending.iter().position(|sent| sent.version == version) else {
            return false;
        };
        if let Some(sent) = self.pending.drain(..=at).next_back() {
            self.accepted = Some(sent);
        }
        true
    }

    /// The content to render: held members with what Envoy accepted of them, if anything.
    pub(super) fn wanted(&self) -> Composition {
        let accepted = |id: &String| self.accepted.as_ref()?.content.get(id).cloned();
        let member = |(id, member): (&String, &Arc<Prepared>)| {
            let member = if self.held.contains(id) { accepted(id) } else { Some(member.clone()) };
            member.map(|member| (id.clone(), member))
        };
        self.members.iter().filter_map(member).collect()
    }

    /// Makes `next` current. Returns whether Envoy has it already.
    pub(super) fn advance(&mut self, next: Sent) -> bool {
        if let Some(accepted) = self.accepted.as_mut().filter(|sent| sent.version == next.version) {
            accepted.content.clone_from(&next.content);
            self.pending.clear();
            self.current = Some(next);
            return true;
        }
        self.pending.push_back(next.clone());
        if self.pending.len() > MAX_PENDING {
            self.pending.pop_front();
        }
        self.current = Some(next);
        false
    }

    /// The clusters that it needs, including those of the accepted version, which serves until
    /// Envoy accepts the new one.
    pub(super) fn needed(&self) -> BTreeMap<String, Rendered> {
        let sent = self.current.iter().chain(&self.accepted);
        let members = sent.flat_map(|sent| sent.content.values());
        members.flat_map(|member| member.clusters.clone()).collect()
    }
}
