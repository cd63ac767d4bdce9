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
    /// By gateway, besides the usual one. One that no publish has any more stays until the agent starts again: whether a call
    /// may upgrade is said by its route.
    upgrades: HashMap<String, BTreeSet<String>>,
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
        let mut new = streams.flat_map(|stream| &stream.upgrades).peekable();
        if new.peek().is_none() {
            return;
        }
        let known = self.upgrades.entry(publish.gateway_id.clone()).or_default();
        let before = known.len();
        for protocol in new.filter(|protocol| *protocol != USUAL_UPGRADE) {
            if known.len() < MAX_UPGRADES {
                known.insert(protocol.clone());
            }
        }
        if known.len() > before {
            self.news.send_replace(());
        }
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
        let mut upgrades = core.leads.upgrades.get(gateway).cloned().unwrap_or_default();
        upgrades.insert(USUAL_UPGRADE.to_owned());
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
