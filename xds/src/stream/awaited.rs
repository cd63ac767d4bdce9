//! Children that a client was made to subscribe to and has not got yet.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Response;
use crate::TypeUrl;

/// A cluster is acknowledged before its endpoints are there, so the acknowledgement alone does not
/// allow sending what refers to it: the children must be acknowledged, too (R61).
#[derive(Debug, Default)]
pub(super) struct Awaited {
    children: HashSet<(TypeUrl, Arc<str>)>,
    /// The lowest phase of their parents; later phases wait.
    phase: u8,
    until: Option<Instant>,
}

impl Awaited {
    pub(super) fn add(
        &mut self,
        child: (TypeUrl, Arc<str>),
        phase: u8,
        now: Instant,
        patience: Duration,
    ) {
        self.phase = if self.children.is_empty() { phase } else { self.phase.min(phase) };
        self.until = now.checked_add(patience);
        self.children.insert(child);
    }

    /// Removes these, which were answered, with whatever result.
    pub(super) fn answered<'a>(
        &mut self,
        type_url: &TypeUrl,
        names: impl Iterator<Item = &'a Arc<str>>,
    ) {
        if self.children.is_empty() {
            return;
        }
        for name in names {
            self.children.remove(&(type_url.clone(), name.clone()));
        }
    }

    /// Whether the phases after this one have to wait, up to a timeout.
    pub(super) fn holds_up_after(&mut self, phase: u8, now: Instant) -> bool {
        if self.until.is_some_and(|until| now >= until) {
            self.children.clear();
        }
        !self.children.is_empty() && phase >= self.phase
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        if self.children.is_empty() { None } else { self.until }
    }
}

/// The children of the resources in a response.
pub(super) fn children(response: &Response) -> impl Iterator<Item = &(TypeUrl, Arc<str>)> {
    response.upserts().flat_map(|(resource, _)| resource.children())
}
