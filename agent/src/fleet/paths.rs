//! What follows for publishes when a gateway takes another path ([`super::fallback`]).
//!
//! Envoys' resources stay as they are while a publish goes by Gateway API, so that an Envoy that comes has everything at
//! once. What it is given by Gateway API is taken away when the Envoys that are there have acknowledged it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use imp_process::clock;
use imp_proto::agent as pb;

use super::core::Core;
use super::fallback::{Now, Path};
use super::gateway_api::Way;
use super::tracker::{About, Verdict};
use crate::intake;
use crate::lkg::{Loaded, Table};

/// Publishes that are moved without a break.
const PORTION: usize = 256;

/// Before the id of a gateway among the facts on disk: delivered by Gateway API since then.
const FACT: &str = "fallback ";

impl Core {
    /// Takes which gateways were delivered by Gateway API before a restart: their objects stay.
    pub(super) fn restore_paths(&mut self, loaded: &Loaded) {
        for (key, row) in loaded.rows(Table::Facts) {
            let Some(gateway) = key.strip_prefix(FACT) else { continue };
            let since = <[u8; 8]>::try_from(row.as_ref()).map(i64::from_be_bytes);
            match since {
                Ok(since) if self.by_gateway_api.fallback.is_on() => {
                    self.by_gateway_api.fallback.restore(gateway, since);
                }
                _ => self.lkg.remove(Table::Facts, key.as_str()),
            }
        }
    }

    /// The gateway is gone, or has no Envoys of ours any more.
    pub(super) fn forget_path(&mut self, gateway: &str) {
        if self.by_gateway_api.fallback.path(gateway).is_some() {
            self.by_gateway_api.fallback.forget(gateway);
            self.lkg.remove(Table::Facts, format!("{FACT}{gateway}"));
        }
    }

    /// Advances all gateways. Time begins when Envoys are served.
    pub(super) fn tick_paths(&mut self, now: Instant) {
        if !self.by_gateway_api.fallback.is_on() || !self.gateway_resources.is_open() {
            return;
        }
        let elapsed = now.saturating_duration_since(self.started);
        let now = Now { elapsed, unix_ms: clock::now().timestamp_millis() };
        let nodes: Vec<_> = self.tracker.targets().map(|(_, node)| node.gateway.clone()).collect();
        let serves_all = nodes.iter().any(Option::is_none);
        let connected: BTreeSet<String> = nodes.into_iter().flatten().collect();
        let known = self.by_gateway_api.with_envoys();
        for gone in self.by_gateway_api.fallback.others(&known) {
            self.forget_path(&gone);
        }
        let fallen = self.fallen_publishes();
        for gateway in &known {
            let is_connected = serves_all || connected.contains(gateway);
            let is_empty = !fallen.contains_key(gateway);
            let fallback = &mut self.by_gateway_api.fallback;
            if let Some(path) = fallback.step(gateway, is_connected, is_empty, now) {
                self.takes(gateway, path);
                fallen.get(gateway).into_iter().flatten().for_each(|id| self.say_path(id));
            }
        }
        for (gateway, may_leave) in self.by_gateway_api.fallback.returning(now) {
            for id in fallen.get(&gateway).into_iter().flatten() {
                let serves = self.tracker.is_accepted_by_gateway_api(id);
                if (may_leave || !serves) && self.is_at_envoys(id) {
                    self.return_to_envoys(id);
                }
            }
        }
        metrics::gauge!("imp_gateways_fallen_back")
            .set(u32::try_from(self.by_gateway_api.fallback.fallen()).unwrap_or(u32::MAX));
    }

    fn takes(&mut self, gateway: &str, path: Path) {
        let key = format!("{FACT}{gateway}");
        match path {
            Path::Grace(_) => {
                tracing::info!(gateway, "no Envoy of the gateway is connected");
            }
            Path::GatewayApi(since) => {
                tracing::warn!(
                    gateway,
                    "no Envoy of the gateway has been connected for a while: Gateway API delivers it until one is"
                );
                self.lkg.put(Table::Facts, key, since.unix_ms.to_be_bytes().to_vec());
                let ids = self.revisions.keys();
                let on_it = |id: &&Arc<str>| self.tracker.gateway_of(id) == Some(gateway);
                self.by_gateway_api.moving.extend(ids.filter(on_it).cloned());
            }
            Path::Returning(_) => {
                tracing::info!(
                    gateway,
                    "an Envoy of the gateway is connected again: Gateway API delivers it until that one has everything"
                );
            }
            Path::Direct => {
                tracing::info!(gateway, "Envoys of the gateway have it, and nothing else does");
                self.lkg.remove(Table::Facts, key);
            }
        }
    }

    /// Whether [`Self::move_some`] has something to do.
    pub(super) fn is_moving(&self) -> bool {
        !self.by_gateway_api.moving.is_empty()
    }

    /// Has some publishes delivered by Gateway API, too.
    pub(super) fn move_some(&mut self) {
        let kept = self.by_gateway_api.moving.len().saturating_sub(PORTION);
        for id in self.by_gateway_api.moving.split_off(kept) {
            let Some(known) = self.revisions.get(&id) else { continue };
            let (access, wire) = (known.wanted.access.clone(), known.wanted.wire.bytes());
            let Ok(parsed) = intake::publish(&wire, &id) else { continue };
            let mut routes = parsed.routes;
            routes.id = access.publish_id().clone();
            if self.way_of(&routes) == Way::Both && self.by_gateway_api.way(&id) == Way::Envoys {
                self.tracker.deliver(&id, true);
                self.by_gateway_api.set(routes, Way::Both);
                self.say_path(&id);
                self.note_stale(&id);
            }
        }
    }

    /// The publishes that go by Gateway API, too, by gateway.
    fn fallen_publishes(&self) -> HashMap<String, Vec<Arc<str>>> {
        let mut by_gateway: HashMap<String, Vec<Arc<str>>> = HashMap::new();
        if self.by_gateway_api.fallback.fallen() > 0 {
            for id in self.by_gateway_api.both() {
                let gateway = self.tracker.gateway_of(id).unwrap_or_default();
                by_gateway.entry(gateway.to_owned()).or_default().push(id.clone());
            }
        }
        by_gateway
    }

    /// Whether Envoys that are there have the wanted revision, and none of them is waited for. One that refuses what
    /// another has takes nothing from it.
    fn is_at_envoys(&self, id: &Arc<str>) -> bool {
        let wanted = self.revisions.get(id).map(|known| known.wanted.number);
        let gateway = self.tracker.gateway_of(id).unwrap_or_default();
        let mut has = false;
        for (target, node) in self.tracker.targets().filter(|(_, node)| node.serves(gateway)) {
            let Some(mut outcome) = self.acks.outcome(id, target) else { return false };
            self.without_wildcards(&mut outcome);
            match outcome.verdict {
                Verdict::Accepted => has |= Some(outcome.revision) == wanted,
                Verdict::Refused(_) => {}
                Verdict::Gone if self.tracker.waits_for(id, node) => return false,
                Verdict::Gone => {}
            }
        }
        has
    }

    fn return_to_envoys(&mut self, id: &Arc<str>) {
        self.tracker.deliver(id, false);
        self.by_gateway_api.forget(id);
        self.drifts.forget(id);
        self.say_path(id);
        self.tracker.say(id, About::Drifted, None);
        self.note_stale(id);
    }

    /// Says on a publish why it goes by Gateway API, if it does for lack of Envoys.
    pub(super) fn say_path(&mut self, id: &Arc<str>) {
        let fallen = self.by_gateway_api.way(id) == Way::Both;
        let gateway = self.tracker.gateway_of(id).filter(|_| fallen);
        let path = gateway.and_then(|gateway| self.by_gateway_api.fallback.path(gateway));
        self.tracker.say(id, About::Delivery, path.and_then(condition));
    }
}

fn condition(path: Path) -> Option<pb::PublishCondition> {
    let (reason, message, since) = match path {
        Path::Direct | Path::Grace(_) => return None,
        Path::GatewayApi(since) => (
            "no_envoy",
            "No Envoy of its gateway is connected: it is delivered by Gateway API until one is.",
            since,
        ),
        Path::Returning(since) => (
            "returning",
            "An Envoy of its gateway is connected again: it is delivered by Gateway API, too, until the Envoy has it and has stayed.",
            since,
        ),
    };
    Some(pb::PublishCondition {
        r#type: About::Delivery.as_str().to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        since_ms: since.unix_ms,
        ..Default::default()
    })
}
