//! The gateways that are refused, with the reason: the agent could not parse one, or an Envoy
//! cannot open one of its listeners.

use std::collections::BTreeMap;

use imp_proto::agent as pb;
use imp_translate::xds::LISTENER;
use imp_translate::xds::names::listener_port;

use super::acknowledgements::envoy_nack;
use super::core::Core;
use super::tracker::gateway_refused;

/// The most that are reported, so that the list fits one message. The others appear when these are
/// fixed.
const MOST: usize = 200;

#[derive(Debug, Default)]
pub(super) struct RefusedGateways {
    /// Gateways that the agent itself refused.
    rejected: BTreeMap<String, pb::PublishError>,
    /// The last result: those, and the ones that Envoys refuse.
    all: BTreeMap<String, pb::PublishError>,
    changed: bool,
}

impl RefusedGateways {
    /// Records that the agent could not parse the gateway.
    pub(super) fn rejected(&mut self, id: &str, error: pb::PublishError) {
        self.rejected.insert(id.to_owned(), error);
    }

    /// Records that the agent accepted the gateway, or no longer has it.
    pub(super) fn taken(&mut self, id: &str) {
        self.rejected.remove(id);
    }

    /// The list, if it was not taken since it changed.
    pub(super) fn take_changed(&mut self) -> Option<pb::GatewayRefusals> {
        std::mem::take(&mut self.changed).then(|| self.list())
    }

    /// Marks the list as changed, for a new report stream.
    pub(super) fn is_news(&mut self) {
        self.changed = true;
    }

    pub(super) fn has_changed(&self) -> bool {
        self.changed
    }

    fn list(&self) -> pb::GatewayRefusals {
        let refusal = |(id, error): (&String, &pb::PublishError)| pb::GatewayRefusal {
            gateway_id: id.clone(),
            error: Some(error.clone()),
        };
        let refusals = self.all.iter().take(MOST).map(refusal).collect();
        pb::GatewayRefusals { refusals, truncated: self.all.len() > MOST }
    }
}

impl Core {
    /// Updates the list. Refused listeners are exactly the ones that are retried, so this costs
    /// nothing while there are none.
    pub(super) fn settle_gateways(&mut self) {
        let mut all = self.refused_gateways.rejected.clone();
        for (stream, key) in self.retries.keys().filter(|(_, key)| key.0 == LISTENER) {
            let Some(words) = self.acks.refusal(*stream, key) else { continue };
            let (Some(port), Some(node)) = (listener_port(&key.1), self.tracker.target(*stream))
            else {
                continue;
            };
            for gateway in self.assembly.gateways_at(port).filter(|id| node.serves(id)) {
                let error = || envoy_nack(key.0, &key.1, words);
                all.entry(gateway.to_string()).or_insert_with(error);
            }
        }
        let known = &mut self.refused_gateways;
        if known.all != all {
            known.all = all;
            known.changed = true;
        }
    }

    /// The refused gateway that blocks a publish.
    pub(super) fn refused_gateway_of(&self, publish: &str) -> Option<pb::PublishError> {
        let gateway = self.tracker.gateway_of(publish)?;
        if self.assembly.gateway(gateway).is_some() {
            return None;
        }
        let error = self.refused_gateways.rejected.get(gateway)?;
        Some(gateway_refused(gateway, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_cut_off_says_so() {
        let mut refused = RefusedGateways::default();
        for (count, truncated) in [(MOST, false), (MOST + 1, true)] {
            let names = (0..count).map(|id| (id.to_string(), pb::PublishError::default()));
            (refused.all, refused.changed) = (names.collect(), true);
            let told = refused.take_changed().unwrap();
            assert_eq!((told.refusals.len(), told.truncated), (MOST, truncated));
        }
    }
}
