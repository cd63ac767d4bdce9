//! Handles a client's answers.

use std::time::Instant;

use super::TypeStream;
use crate::resource_set::View;
use crate::stream::{Answer, Entry, SentResource};
use crate::wire::Status;

/// Longer error messages are truncated, because they are stored, logged and forwarded.
const MAX_WORDS: usize = 64 << 10;

fn words(message: &str) -> String {
    message.get(..message.floor_char_boundary(MAX_WORDS)).unwrap_or_default().to_owned()
}

impl TypeStream {
    /// The answer to the response in flight, if the request is one. A stale nonce is no answer, but
    /// the rest of the request counts (R31). Only `error_detail` makes it a rejection (R30).
    pub(in crate::stream) fn answer(
        &mut self,
        nonce: &str,
        error_detail: Option<&Status>,
        view: &View<'_>,
    ) -> Option<Answer> {
        let mut in_flight = self.in_flight.take_if(|f| f.nonce.is(nonce))?;
        self.answered_at.note();
        let refusal = error_detail.map(|status| words(&status.message));
        match (&refusal, in_flight.shapes(&self.rules)) {
            (Some(_), Some(shapes)) => self.shapes.refuse(shapes),
            (None, Some(shapes)) => self.shapes.acknowledge(shapes),
            (_, None) => {}
        }
        match &refusal {
            Some(words) => self.refuse(&in_flight.resources, words, view),
            None => self.accept(&in_flight.resources, in_flight.since, view),
        }
        if view.position() != in_flight.position {
            self.remove_what_came_late(&in_flight.resources, view);
        }
        if refusal.is_some() && in_flight.resources.iter().any(|r| r.version().is_some()) {
            let is_upsert = |r: &&SentResource| r.version().is_some() && !r.is_heartbeat();
            let upserts = in_flight.resources.iter().filter(is_upsert);
            in_flight.resources = upserts.cloned().collect(); // nothing else says anything new
        }
        Some(Answer {
            type_url: self.rules.type_url.clone(),
            resources: in_flight.resources,
            sent_at: in_flight.since,
            refusal,
        })
    }

    /// A resource may be removed while it is in flight, and unsubscribed when it was removed: the
    /// client unsubscribed and subscribed again meanwhile.
    fn remove_what_came_late(&mut self, resources: &[SentResource], view: &View<'_>) {
        let type_url = &self.rules.type_url;
        for name in resources.iter().filter(|r| r.version().is_some()).map(SentResource::name) {
            if !view.exists(type_url, name) && self.subscription.wants(name) {
                self.removals.entry(name.clone()).or_insert(None);
            }
        }
    }

    fn accept(&mut self, resources: &[SentResource], since: Instant, view: &View<'_>) {
        self.counts.acked += 1;
        self.keep(resources, since, view);
        for (name, version) in resources.iter().map(|r| (r.name(), r.version())) {
            self.suspects.clear(name);
            self.forget_what_was_known(name);
            // A rejection is remembered until something shows that it no longer holds.
            if self.refused.get(name).is_some_and(|refused| version == Some(refused)) {
                self.refused.remove(name);
            }
            if let (true, Some(version)) = (self.rules.limits().tells_proven, version) {
                view.accepted(&self.rules.type_url, name, version);
            }
        }
    }

    fn forget_what_was_known(&mut self, name: &str) {
        for names in [&mut self.held_at_start, &mut self.doubted] {
            if !names.is_empty() {
                names.remove(name);
            }
        }
    }

    /// A single upsert is the cause. Several are tried separately (R33, R34).
    fn refuse(&mut self, resources: &[SentResource], words: &str, view: &View<'_>) {
        self.counts.nacked += 1;
        self.last_refusal = Some(words.into());
        if resources.iter().any(SentResource::is_heartbeat) {
            return self.send_whole(resources, view);
        }
        let mut upserts: Vec<_> =
            resources.iter().filter_map(|r| Some((r.name(), r.version()?))).collect();
        let type_url = &self.rules.type_url;
        upserts.iter().for_each(|(name, _)| view.refused(type_url, name));
        if !upserts.is_empty() {
            // Not the cause, but perhaps not applied. A response with only removals is not sent
            // twice.
            let removals =
                resources.iter().filter(|r| r.version().is_none()).map(SentResource::name);
            let again =
                removals.filter(|n| !view.exists(type_url, n) && self.subscription.wants(n));
            self.removals.extend(again.map(|name| (name.clone(), None)));
        }
        for (name, _) in &upserts {
            self.held_at_start.remove(*name);
        }
        if self.sends_full_state() {
            // It cannot be taken apart: what is left out would be deleted.
            let is_new = |sent: &&SentResource| matches!(sent.0, Entry::Upsert(..));
            let new = resources.iter().filter(is_new).map(SentResource::name);
            self.doubted.extend(new.cloned());
            return;
        }
        resources.iter().for_each(|sent| self.heartbeats.forget(sent.name()));
        if let [(name, version)] = upserts[..] {
            self.suspects.clear(name);
            self.refused.insert(name.clone(), version.clone());
            return;
        }
        upserts.retain(|(name, _)| {
            let found = view.find(type_url, name).filter(|_| self.subscription.wants(name));
            found.is_some_and(|found| {
                !self.is_due(name, found.changed_at) && !self.waiting.contains(name)
            })
        });
        self.suspects.accuse(upserts.into_iter().map(|(name, _)| name.clone()).collect(), words);
    }
}
