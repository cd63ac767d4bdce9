//! Gateways that are behind somebody else's listeners: which hosts must lead there, and which do. A publish is active
//! there when its hosts do, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imp_proto::agent as pb;
use imp_translate::assembly::Host;
use imp_translate::xds::SCOPE;
use imp_translate::xds::names::Place;
use imp_translate::{Delta, ir};
use tokio::sync::watch;

use super::Fleet;
use super::acknowledgements::Key;
use super::core::Core;
use super::tracker::TargetId;

/// In place of a type URL: a host that leads to us.
pub(super) const LEAD: &str = "imp/host";

/// The version of a host that does.
const LEADS: &str = "1";

/// Why a host does not lead to a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLed {
    /// Somebody's route on that Gateway has it.
    Taken,
    /// No listener of that Gateway takes calls for it.
    NotAdmitted,
    /// There are too many.
    TooMany,
}

/// Where an attached gateway stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Led {
    /// The hosts that lead to it by now.
    pub hosts: BTreeSet<Arc<str>>,
    /// The hosts that will not.
    pub refused: BTreeMap<Arc<str>, NotLed>,
}

impl Led {
    pub fn stands(&self, host: &str) -> Stands {
        match self.refused.get(host) {
            Some(why) => Stands::Refused(*why),
            None if self.hosts.contains(host) => Stands::Leads,
            None => Stands::Nowhere,
        }
    }

    pub fn put(&mut self, host: &Arc<str>, stands: Stands) {
        self.hosts.remove(host);
        self.refused.remove(host);
        match stands {
            Stands::Leads => drop(self.hosts.insert(host.clone())),
            Stands::Refused(why) => drop(self.refused.insert(host.clone(), why)),
            Stands::Nowhere => {}
        }
    }
}

/// Where a host stands at an attached gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    Leads,
    Refused(NotLed),
    /// It does not lead there yet, or no more.
    Nowhere,
}

/// A host that came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedHost {
    pub host: Arc<str>,
    /// The ports where it came or went, and those where it is: whether it is there now.
    pub ports: BTreeMap<u16, bool>,
}

/// A gateway that is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub gateway: ir::Gateway,
    /// By port.
    pub hosts: BTreeMap<u16, BTreeSet<Arc<str>>>,
    /// The protocols that calls of its publishes may upgrade to.
    pub upgrades: BTreeSet<String>,
}

/// What every table that leads to a gateway lets pass.
const USUAL_UPGRADE: &str = "websocket";

/// No gateway has more protocols in those tables.
const MAX_UPGRADES: usize = 100;

/// With more changed hosts all of them are looked at.
const MAX_CHANGED: usize = 256;

#[derive(Debug)]
pub(super) struct Leads {
    by_place: BTreeMap<Place, Arc<str>>,
    by_gateway: HashMap<Arc<str>, BTreeSet<Place>>,
    led: HashMap<String, Led>,
    /// By publish, with its gateway: those besides the usual one.
    upgrades: BTreeMap<String, (String, BTreeSet<String>)>,
    /// The places that have changed since somebody looked at a gateway. Without an entry all of them must be looked at.
    changed: HashMap<String, BTreeSet<Place>>,
    news: watch::Sender<()>,
}

impl Default for Leads {
    fn default() -> Self {
        let (by_place, by_gateway, led, upgrades, changed) = Default::default();
        Self { by_place, by_gateway, led, upgrades, changed, news: watch::Sender::new(()) }
    }
}

impl Leads {
    pub(super) fn note(&mut self, delta: &Delta) {
        let mut changed = false;
        for Host { place, gateway } in delta.hosts.values() {
            let before = self.by_place.get(place);
            if before == gateway.as_ref() {
                continue;
            }
            changed = true;
            if let Some(before) = self.by_place.remove(place)
                && let Some(places) = self.by_gateway.get_mut(&before)
            {
                places.remove(place);
                self.mark(&before, place);
            }
            if let Some(gateway) = gateway {
                self.mark(gateway, place);
                self.by_place.insert(place.clone(), gateway.clone());
                self.by_gateway.entry(gateway.clone()).or_default().insert(place.clone());
            }
        }
        if changed {
            self.news.send_replace(());
        }
    }

    fn mark(&mut self, gateway: &str, place: &Place) {
        let Some(changed) = self.changed.get_mut(gateway) else { return };
        changed.insert(place.clone());
        if changed.len() > MAX_CHANGED {
            self.changed.remove(gateway);
        }
    }

    /// What calls of this publish may upgrade to.
    pub(super) fn note_upgrades(&mut self, publish: &ir::Publish) {
        let streams = publish.routes.iter().filter_map(|route| route.stream.as_ref());
        let named = streams.flat_map(|stream| &stream.upgrades);
        let named: BTreeSet<String> = named.filter(|it| *it != USUAL_UPGRADE).cloned().collect();
        if named.is_empty() {
            return self.forget_upgrades(&publish.id);
        }
        let now = (publish.gateway_id.clone(), named);
        if self.upgrades.get(&*publish.id) != Some(&now) {
            self.gateway_changed(&publish.gateway_id);
            if let Some((former, _)) = self.upgrades.insert(publish.id.to_string(), now) {
                self.gateway_changed(&former);
            }
        }
    }

    /// A publish is gone, or upgrades to nothing unusual.
    pub(super) fn forget_upgrades(&mut self, publish: &str) {
        if let Some((gateway, _)) = self.upgrades.remove(publish) {
            self.gateway_changed(&gateway);
        }
    }

    /// What calls of a gateway may upgrade to. If there is no room for all, each publish has its first one before any has a
    /// second, so that nobody's many leave none to others.
    fn upgrades_of(&self, gateway: &str) -> BTreeSet<String> {
        let own: Vec<_> = self.upgrades.values().filter(|(of, _)| of == gateway).collect();
        let longest = own.iter().map(|(_, named)| named.len()).max().unwrap_or_default();
        let nth = |nth: usize| own.iter().filter_map(move |(_, named)| named.iter().nth(nth));
        let mut upgrades = BTreeSet::from([USUAL_UPGRADE.to_owned()]);
        for protocol in (0..longest).flat_map(nth) {
            if upgrades.len() > MAX_UPGRADES {
                tracing::warn!(
                    gateway,
                    "its publishes name too many protocols to upgrade to; the last ones are refused by its Gateway"
                );
                break;
            }
            upgrades.insert(protocol.clone());
        }
        upgrades
    }

    /// A gateway has other listeners or settings, or is gone.
    pub(super) fn gateway_changed(&mut self, id: &str) {
        self.changed.remove(id);
        self.news.send_replace(());
    }

    /// The hosts of a gateway that have changed, with the ports where they are now.
    fn take_changed(&mut self, gateway: &ir::Gateway) -> Option<Vec<ChangedHost>> {
        let changed = std::mem::take(self.changed.get_mut(&gateway.id)?);
        let mut hosts: BTreeMap<Arc<str>, BTreeMap<u16, bool>> = BTreeMap::new();
        for Place { port, host } in changed {
            if let Some(host) = host {
                hosts.entry(host).or_default().insert(port, false);
            }
        }
        let there = self.by_gateway.get(&*gateway.id);
        let is_there = |place: &Place| there.is_some_and(|places| places.contains(place));
        for (host, ports) in &mut hosts {
            for listener in &gateway.listeners {
                let place = Place { port: listener.port, host: Some(host.clone()) };
                if is_there(&place) {
                    ports.insert(listener.port, true);
                }
            }
        }
        Some(hosts.into_iter().map(|(host, ports)| ChangedHost { host, ports }).collect())
    }

    fn led(&self, gateway: &str) -> impl Iterator<Item = &Arc<str>> {
        self.led.get(gateway).into_iter().flat_map(|led| &led.hosts)
    }

    fn refusal(&self, gateway: &str, hosts: &[Arc<str>]) -> Option<(Arc<str>, NotLed)> {
        let led = self.led.get(gateway)?;
        hosts.iter().find_map(|host| Some((host.clone(), *led.refused.get(host)?)))
    }
}

fn key(host: &Arc<str>) -> Key {
    (LEAD, host.clone())
}

impl Fleet {
    /// Wakes when hosts or gateways have changed.
    pub fn host_news(&self) -> watch::Receiver<()> {
        self.lock().leads.news.subscribe()
    }

    /// The gateway, and the hosts that are served there. [`Self::changed_hosts`] says which of them come and go from now on.
    pub fn wanted(&self, gateway: &str) -> Option<Wanted> {
        let mut core = self.lock();
        let known = core.assembly.gateway(gateway)?.clone();
        core.leads.changed.insert(gateway.to_owned(), BTreeSet::new());
        let mut hosts: BTreeMap<u16, BTreeSet<Arc<str>>> = BTreeMap::new();
        for place in core.leads.by_gateway.get(gateway).into_iter().flatten() {
            hosts.entry(place.port).or_default().extend(place.host.clone());
        }
        let upgrades = core.leads.upgrades_of(gateway);
        Some(Wanted { gateway: known, hosts, upgrades })
    }

    /// The hosts that have come or gone since this or [`Self::wanted`] was asked. `None` if something else has changed, or
    /// too much.
    pub fn changed_hosts(&self, gateway: &str) -> Option<Vec<ChangedHost>> {
        let mut core = self.lock();
        let Core { assembly, leads, .. } = &mut *core;
        leads.take_changed(assembly.gateway(gateway)?)
    }

    /// Records which hosts lead to a gateway; `None` when it is attached no more.
    pub fn set_led(&self, gateway: &str, led: Option<Led>) {
        let mut core = self.lock();
        core.set_led(gateway, led);
        core.follow_all();
        self.tell(core);
    }

    /// Records where some of the hosts of an attached gateway stand.
    pub fn lead(&self, gateway: &str, hosts: &[(Arc<str>, Stands)]) {
        let mut core = self.lock();
        core.lead(gateway, hosts);
        core.follow_all();
        self.tell(core);
    }
}

impl Core {
    fn set_led(&mut self, gateway: &str, led: Option<Led>) {
        let now = led.clone().unwrap_or_default();
        let before = match led {
            Some(led) => self.leads.led.insert(gateway.to_owned(), led),
            None => {
                self.leads.changed.remove(gateway);
                self.leads.led.remove(gateway)
            }
        };
        let before = before.unwrap_or_default();
        for target in self.targets_of(gateway) {
            for host in now.hosts.difference(&before.hosts) {
                self.acks.acked(target, &key(host), Some(LEADS));
            }
            for host in before.hosts.difference(&now.hosts) {
                self.acks.acked(target, &key(host), None);
            }
        }
        if now.refused != before.refused {
            let publishes = self.assembly.publishes_on(gateway);
            publishes.iter().for_each(|id| self.note_stale(id));
        }
    }

    fn lead(&mut self, gateway: &str, hosts: &[(Arc<str>, Stands)]) {
        let led = self.leads.led.entry(gateway.to_owned()).or_default();
        let mut changed = Vec::new();
        for (host, now) in hosts {
            let before = led.stands(host);
            if before != *now {
                led.put(host, *now);
                changed.push((host, before, *now));
            }
        }
        let targets = self.targets_of(gateway);
        for (host, before, now) in changed {
            let (led, leads) = (before == Stands::Leads, now == Stands::Leads);
            if led != leads {
                let version = leads.then_some(LEADS);
                targets.iter().for_each(|target| self.acks.acked(*target, &key(host), version));
            }
            if [before, now].iter().any(|it| matches!(it, Stands::Refused(_))) {
                self.stale_at(gateway, host);
            }
        }
    }

    fn targets_of(&self, gateway: &str) -> Vec<TargetId> {
        let targets = self.tracker.targets().filter(|(_, target)| target.serves(gateway));
        targets.map(|(id, _)| id).collect()
    }

    /// The publishes at a host may have another status.
    fn stale_at(&mut self, gateway: &str, host: &Arc<str>) {
        let listeners = self.assembly.gateway(gateway).into_iter().flat_map(|it| &it.listeners);
        let places = listeners.map(|it| Place { port: it.port, host: Some(host.clone()) });
        let names: Vec<String> = places.map(|place| place.name()).collect();
        for name in names {
            let ids = self.assembly.publishes_of(gateway, SCOPE, &name);
            ids.iter().for_each(|id| self.note_stale(id));
        }
    }

    /// What already leads to the gateway of a new target.
    pub(super) fn tell_led(&mut self, target: TargetId, gateway: &str) {
        let hosts: Vec<_> = self.leads.led(gateway).cloned().collect();
        hosts.iter().for_each(|host| self.acks.acked(target, &key(host), Some(LEADS)));
    }

    /// What a publish needs so that calls come to it: its hosts.
    pub(super) fn hosts_of(&self, id: &str) -> Vec<(&'static str, Arc<str>, Arc<str>)> {
        let hosts = self.revisions.get(id).map(|it| it.wanted.access.hostnames());
        let hosts = hosts.into_iter().flatten();
        hosts.map(|host| (LEAD, host.clone(), LEADS.into())).collect()
    }

    /// Why calls for one of its hosts do not come. Whose route it is concerns the cluster's operator alone.
    pub(super) fn not_led(&self, id: &str) -> Option<pb::PublishError> {
        let gateway = self.tracker.gateway_of(id)?;
        let hosts = self.revisions.get(id)?.wanted.access.hostnames();
        let (host, why) = self.leads.refusal(gateway, hosts)?;
        let (code, hint) = match why {
            NotLed::Taken => (
                "host_taken",
                format!(
                    "Host {host} is served by somebody else on this cluster's Gateway. Use another host, or ask its operator."
                ),
            ),
            NotLed::NotAdmitted => (
                "host_not_admitted",
                format!(
                    "No listener of this cluster's Gateway takes calls for host {host}. Use another host, or ask its operator."
                ),
            ),
            NotLed::TooMany => (
                "too_many_hosts",
                format!(
                    "This cluster's Gateway has no room for host {host}. Ask its operator for a wildcard that leads here."
                ),
            ),
        };
        Some(pb::PublishError { code: code.to_owned(), hint, ..Default::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_publish_takes_all_the_room_for_upgrades_and_one_that_goes_leaves_it() {
        let mut leads = Leads::default();
        let many: BTreeSet<String> = (0..300).map(|n| format!("many{n:03}")).collect();
        leads.upgrades.insert("a".to_owned(), ("g".to_owned(), many));
        let one = BTreeSet::from(["zzz".to_owned()]);
        leads.upgrades.insert("b".to_owned(), ("g".to_owned(), one.clone()));
        leads.upgrades.insert("c".to_owned(), ("other".to_owned(), one));
        let all = leads.upgrades_of("g");
        assert_eq!(all.len(), 1 + MAX_UPGRADES);
        assert!(all.contains("zzz") && all.contains(USUAL_UPGRADE));
        leads.forget_upgrades("a");
        assert_eq!(leads.upgrades_of("g").len(), 2);
        assert_eq!(leads.upgrades_of("nobodys"), BTreeSet::from([USUAL_UPGRADE.to_owned()]));
    }
}
