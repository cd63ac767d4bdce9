//! The content of a response, before it is one.

use std::sync::Arc;

use crate::Resource;
use crate::stream::{Entry, SentResource};

/// The content of a future response.
#[derive(Debug, Default)]
pub(in crate::stream) struct Content {
    pub(super) upserts: Vec<(Resource, u32)>,
    pub(super) unchanged: Vec<Resource>,
    pub(super) heartbeats: Vec<Resource>,
    pub(super) absent: Vec<Arc<str>>,
    pub(super) removals: Vec<Arc<str>>,
    /// It has only heartbeats, with or without content.
    pub(super) is_heartbeat: bool,
    /// More of the first answer follows (R93).
    pub(super) more: bool,
}

impl Content {
    pub(super) fn into_option(self) -> Option<Self> {
        let empty = self.upserts.is_empty() && self.absent.is_empty() && self.removals.is_empty();
        (!empty).then_some(self)
    }

    pub(super) fn into_list(self) -> Arc<[SentResource]> {
        let upserts = self.upserts.into_iter().map(|(resource, n)| Entry::Upsert(resource, n));
        let unchanged = self.unchanged.into_iter().map(Entry::Unchanged);
        let heartbeats = self.heartbeats.into_iter().map(Entry::Heartbeat);
        let absent = self.absent.into_iter().map(Box::new).map(Entry::Absent);
        let removals = self.removals.into_iter().map(Box::new).map(Entry::Removed);
        let kept = unchanged.chain(heartbeats);
        upserts.chain(kept).chain(absent).chain(removals).map(SentResource).collect()
    }
}
