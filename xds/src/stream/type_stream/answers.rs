//! What a client's answer means.

use std::time::Instant;

use super::TypeStream;
use crate::Batching;
use crate::resource_set::View;
use crate::stream::{Answer, SentResource};
use crate::wire::Status;

/// Longer explanations are cut: they are kept, logged and sent on.
const MAX_WORDS: usize = 64 << 10;

fn words(message: &str) -> String {
    message.get(..message.floor_char_boundary(MAX_WORDS)).unwrap_or_default().to_owned()
}

impl TypeStream {
    /// The answer to the response under way, if the request is one. A stale nonce answers nothing,
    /// and takes nothing from the rest of the request (R31). Only `error_detail` makes it a refusal (R30).
    pub(in crate::stream) fn answer(
        &mut self,
        nonce: &str,
        error_detail: Option<&Status>,
        view: &View<'_>,
    ) -> Option<Answer> {
        let mut in_flight = self.in_flight.take_if(|f| f.nonce.is(nonce))?;
        let refusal = error_detail.map(|status| words(&status.message));
        match &refusal {
            Some(words) => self.refuse(&in_flight.resources, words, view),
            None => self.accept(&in_flight.resources, in_flight.since, view),
        }
        if view.revision() != in_flight.revision {
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

    /// A resource may be gone by the time it arrives, and have been of no interest when it went: the
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
            // A refusal is remembered for as long as nothing says that it does not hold any more.
            if self.refused.get(name).is_some_and(|refused| version == Some(refused)) {
                self.refused.remove(name);
            }
            if let (Batching::Single, Some(version)) = (self.rules.batching, version) {
                view.accepted(&self.rules.type_url, name, version);
            }
        }
    }

    /// One upsert: it is the culprit. Several: each has to show for itself (R33, R34).
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
            // Innocent, and perhaps not applied. A response of removals alone is not sent twice.
            let removals =
                resources.iter().filter(|r| r.version().is_none()).map(SentResource::name);
            let again =
                removals.filter(|n| !view.exists(type_url, n) && self.subscription.wants(n));
            self.removals.extend(again.map(|name| (name.clone(), None)));
        }
        if self.sends_full_state() {
            return; // it cannot be taken apart: what is left out would be deleted
        }
        resources.iter().for_each(|sent| self.heartbeats.forget(sent.name()));
        if let [(name, version)] = upserts[..] {
            self.suspects.clear(name);
            self.refused.insert(name.clone(), version.clone());
            return;
        }
        upserts.retain(|(name, _)| {
            let again = self.upserts.contains(*name) || self.asked.contains(*name);
            !again && view.get(type_url, name).is_some() && self.subscription.wants(name)
        });
        self.suspects.accuse(upserts.into_iter().map(|(name, _)| name.clone()).collect(), words);
    }
}
