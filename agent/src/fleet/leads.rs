//! Gateways that are behind somebody else's listeners: which hosts must lead there, and which do. A publish is active
//! there when its hosts do, too.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use imp_proto::agent as pb;
use imp_translate::assembly::Host;
use imp_translate::xds::names::Place;
use imp_translate::{Delta, ir};
use tokio::sync::watch;

use super::Fleet;
use super::acknowledgements::Key;
use super::core::Core;

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

/// A gateway that is to be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub gateway: ir::Gateway,
    /// By port.
    pub hosts: BTreeMap<u16, BTreeSet<String>>,
    /// The protocols that calls of its publishes may upgrade to.
    pub upgrades: BTreeSet<String>,
}

/// What every table that leads to a gateway lets pass.
const USUAL_UPGRADE: &str = "websocket";

/// No gateway has more protocols in those tables.
const MAX_UPGRADES: usize = 100;

#[derive(Debug)]
pub(super) struct Leads {
    by_place: BTreeMap<Place, Arc<str>>,
    by_gateway: HashMap<Arc<str>, BTreeSet<Place>>,
    led: HashMap<String, Led>,
    /// By publish, with its gateway: those besides the usual one.
    upgrades: BTreeMap<String, (String, BTreeSet<String>)>,
    news: watch::Sender<()>,
}

impl Default for Leads {
    fn default() -> Self {
        let (by_place, by_gateway, led, upgrades) = Default::default();
        Self { by_place, by_gateway, led, upgrades, news: watch::Sender::new(()) }
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
            }
            if let Some(gateway) = gateway {
                self.by_place.insert(place.clone(), gateway.clone());
                self.by_gateway.entry(gateway.clone()).or_default().insert(place.clone());
            }
        }
        if changed {
            self.news.send_replace(());
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
            self.upgrades.insert(publish.id.to_string(), now);
            self.news.send_replace(());
        }
    }

    /// A publish is gone, or upgrades to nothing unusual.
    pub(super) fn forget_upgrades(&mut self, publish: &str) {
        if self.upgrades.remove(publish).is_some() {
            self.news.send_replace(());
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
    pub(super) fn gateway_changed(&self) {
        self.news.send_replace(());
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

    /// The gateway, and the hosts that are served there.
    pub fn wanted(&self, gateway: &str) -> Option<Wanted> {
        let core = self.lock();
        let mut hosts: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
        for place in core.leads.by_gateway.get(gateway).into_iter().flatten() {
            let host = place.host.as_deref().map(str::to_owned);
            hosts.entry(place.port).or_default().extend(host);
        }
        let upgrades = core.leads.upgrades_of(gateway);
        Some(Wanted { gateway: core.assembly.gateway(gateway)?.clone(), hosts, upgrades })
    }

    /// Records which hosts lead to a gateway; `None` when it is attached no more.
    pub fn set_led(&self, gateway: &str, led: Option<Led>) {
        let mut core = self.lock();
        core.set_led(gateway, led);
        core.follow_all();
        self.tell(core);
    }
}

impl Core {
    fn set_led(&mut self, gateway: &str, led: Option<Led>) {
        let now = led.clone().unwrap_or_default();
        let before = match led {
            Some(led) => self.leads.led.insert(gateway.to_owned(), led),
            None => self.leads.led.remove(gateway),
        };
        let before = before.unwrap_or_default();
        let targets = self.tracker.targets().filter(|(_, target)| target.serves(gateway));
        let targets: Vec<_> = targets.map(|(id, _)| id).collect();
        for target in targets {
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

    /// What already leads to the gateway of a new target.
    pub(super) fn tell_led(&mut self, target: super::tracker::TargetId, gateway: &str) {
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
