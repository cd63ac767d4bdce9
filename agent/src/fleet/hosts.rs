//! The hosts that modules know. A host becomes known once Envoys have its scope, and is forgotten before they
//! lose it: with a wildcard above it, calls would be answered 404 in between.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use imp_translate::assembly::Host;
use imp_translate::xds::SCOPE;
use imp_translate::xds::names::Place;
use imp_translate::{Delta, GatewayDelta};
use imp_xds::StreamId;

use super::Fleet;
use super::core::Core;
use super::tracker::Target;

/// How long the removal of a scope waits for modules. One that takes longer is hung up on anyway.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is between Envoys and their modules.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    /// Hosts that some Envoy has no scope for yet, by the names of those, and since when.
    awaited: HashMap<Arc<str>, (Awaited, Duration)>,
    /// Removals that wait until modules have forgotten the hosts.
    leaving: Vec<Leaving>,
    /// Whether there are any.
    is_leaving: Arc<AtomicBool>,
}

impl Hosts {
    /// Whether removals wait.
    pub(super) fn leaving(&self) -> Arc<AtomicBool> {
        self.is_leaving.clone()
    }

    fn wait(&mut self, leaving: Vec<Leaving>) {
        self.is_leaving.store(!leaving.is_empty(), Ordering::Release);
        self.leaving = leaving;
    }
}

#[derive(Debug)]
struct Awaited {
    place: Place,
    gateway: Arc<str>,
}

#[derive(Debug)]
struct Leaving {
    /// The version of the feed without the hosts.
    version: u64,
    until: Instant,
    removals: Delta,
}

fn host(place: &Place) -> (u16, &str) {
    (place.port, place.host.as_deref().unwrap_or_default())
}

impl Fleet {
    /// Removes scopes that waited for modules.
    pub(super) fn let_go(&self) {
        if self.shared.leaving.load(Ordering::Acquire) {
            let mut core = self.lock();
            core.let_go();
            self.publish(core);
        }
    }
}

impl Core {
    /// Tells modules of the hosts of a delta. Returns what of it may go to Envoys now.
    pub(super) fn hosts_first(&mut self, mut delta: Delta) -> Delta {
        let Some(feed) = self.feed.clone() else { return delta };
        self.come_back(&delta);
        for (place, is_kept_out) in mem::take(&mut delta.kept_out) {
            let (port, pattern) = host(&place);
            if is_kept_out {
                feed.put_host(port, pattern);
            } else if !self.assembly.has_place(&place) {
                feed.remove_host(port, pattern);
            }
        }
        let mut forgotten = false;
        for (name, Host { place, gateway }) in mem::take(&mut delta.hosts) {
            let (port, pattern) = host(&place);
            match gateway {
                Some(_) if feed.has_host(port, pattern) => {}
                Some(gateway) => {
                    let awaited = (Awaited { place, gateway }, self.tracker.now());
                    self.hosts.awaited.insert(name.clone(), awaited);
                    self.scope_arrived(&name);
                }
                None => {
                    self.hosts.awaited.remove(&name);
                    forgotten |=
                        !self.assembly.keeps_out(&place) && feed.remove_host(port, pattern);
                }
            }
        }
        let version = feed.version();
        if !forgotten || feed.has_reached(version) {
            return delta;
        }
        let until = Instant::now() + PATIENCE;
        let (now, removals) = split(delta);
        let mut leaving = mem::take(&mut self.hosts.leaving);
        leaving.push(Leaving { version, until, removals });
        self.hosts.wait(leaving);
        now
    }

    /// What is put again is not removed any more.
    fn come_back(&mut self, delta: &Delta) {
        for leaving in &mut self.hosts.leaving {
            keep(&mut leaving.removals.all, &delta.all);
            for (gateway, of_gateway) in &mut leaving.removals.gateways {
                if let Some(put) = delta.gateways.get(gateway) {
                    keep(of_gateway, put);
                }
            }
        }
    }

    /// Some Envoy has the scope, or is gone: modules may know the host if nobody lacks it.
    pub(super) fn scope_arrived(&mut self, name: &Arc<str>) {
        let Some((Awaited { place, gateway }, since)) = self.hosts.awaited.get(name) else {
            return;
        };
        let (mut anybody, mut has_it, key) = (false, false, (SCOPE, name.clone()));
        // Without a module in it an Envoy finds no host by what modules know.
        let waited = |(stream, target): &(StreamId, &Target)| {
            target.serves(gateway) && !self.plain.contains(stream)
        };
        for (stream, target) in self.tracker.targets().filter(waited) {
            anybody = true;
            match self.acks.has(stream, &key) {
                Some(has) => has_it |= has,
                None if self.tracker.is_silent(target, *since) => {}
                None => return,
            }
        }
        // Without an Envoy there is nobody who could answer 404.
        if (has_it || !anybody)
            && let Some(feed) = &self.feed
        {
            let (port, pattern) = host(place);
            feed.put_host(port, pattern);
            self.hosts.awaited.remove(name);
        }
    }

    /// The same for all hosts that are awaited.
    pub(super) fn scopes_arrived(&mut self) {
        let names: Vec<_> = self.hosts.awaited.keys().cloned().collect();
        names.iter().for_each(|name| self.scope_arrived(name));
    }

    /// Stages the removals of scopes whose hosts all modules have forgotten.
    pub(super) fn let_go(&mut self) {
        let Some(feed) = &self.feed else { return };
        let now = Instant::now();
        let gone = |leaving: &Leaving| leaving.until <= now || feed.has_reached(leaving.version);
        let (gone, waiting) = mem::take(&mut self.hosts.leaving).into_iter().partition(gone);
        self.hosts.wait(waiting);
        let gone: Vec<Leaving> = gone;
        gone.into_iter().for_each(|leaving| self.stage_now(leaving.removals));
    }
}

/// Parts a delta into what is put and what is removed.
fn split(mut delta: Delta) -> (Delta, Delta) {
    let removals = |of: &mut GatewayDelta| GatewayDelta {
        removals: mem::take(&mut of.removals),
        ..GatewayDelta::default()
    };
    let all = removals(&mut delta.all);
    let gateways = delta.gateways.iter_mut().map(|(id, of)| (id.clone(), removals(of))).collect();
    let removed = Delta { all, gateways, ..Delta::default() };
    (delta, removed)
}

fn keep(removals: &mut GatewayDelta, put: &GatewayDelta) {
    if removals.removals.is_empty() || put.upserts.is_empty() {
        return;
    }
    let put: HashSet<_> = put.upserts.iter().map(|it| (it.type_url, &*it.name)).collect();
    removals.removals.retain(|(type_url, name)| !put.contains(&(*type_url, name.as_str())));
}
