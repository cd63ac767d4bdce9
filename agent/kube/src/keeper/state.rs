//! What is wanted, what there is, and what follows. Pure: time is a parameter.

mod set;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Done, Order, Report, work::Work};
use crate::cluster::Change;
use crate::compare::{Difference, difference};
use crate::fault::Fault;
use crate::kinds::Kind;
use crate::object::Key;
use set::Set;

/// A fight about an object is one that is lost more often than this within [`FIGHT`]; then it is
/// corrected less often.
const PATIENCE: usize = 5;
const FIGHT: Duration = Duration::from_secs(60);
const LONGEST_TRUCE: Duration = Duration::from_secs(30);

pub(super) struct State {
    sets: BTreeMap<Arc<str>, Set>,
    /// Everything with our labels, by set.
    live: HashMap<Arc<str>, HashMap<Key, Value>>,
    /// Sets about which there may be something to do.
    dirty: BTreeSet<Arc<str>>,
    /// Sets that may stand otherwise than was reported.
    restless: BTreeSet<Arc<str>>,
    /// Kinds whose list has not ended once.
    unlisted: HashSet<&'static str>,
    /// What a list has named so far, by kind.
    listing: HashMap<&'static str, HashSet<Key>>,
    /// What a watch last failed with.
    faults: HashMap<&'static str, Fault>,
    /// When objects were corrected lately.
    corrections: HashMap<Key, VecDeque<Instant>>,
    /// Objects that have drifted and are not corrected yet.
    drifting: HashSet<Key>,
    complete: bool,
    drifts: Vec<Report>,
    set_of: fn(&Value) -> Option<String>,
}

impl State {
    pub(super) fn new(kinds: &[&'static Kind], set_of: fn(&Value) -> Option<String>) -> Self {
        Self {
            sets: BTreeMap::new(),
            live: HashMap::new(),
            dirty: BTreeSet::new(),
            restless: BTreeSet::new(),
            unlisted: kinds.iter().map(|kind| kind.kind).collect(),
            listing: HashMap::new(),
            faults: HashMap::new(),
            corrections: HashMap::new(),
            drifting: HashSet::new(),
            complete: false,
            drifts: Vec::new(),
            set_of,
        }
    }

    pub(super) fn order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Want { set, revision, gateway, objects } => {
                let name: Arc<str> = set.into();
                let set = self.sets.entry(name.clone()).or_insert_with(|| Set::new(now));
                set.want((revision, gateway), objects, now);
                self.touch(&name);
            }
            Order::Hold { set } => {
                self.sets.entry(set.into()).or_insert_with(|| Set::new(now)).hold();
            }
            Order::Forget { set } => {
                let name: Arc<str> = set.into();
                self.sets.entry(name.clone()).or_insert_with(|| Set::new(now)).forget(now);
                self.touch(&name);
            }
            Order::Complete => self.complete = true,
        }
    }

    fn touch(&mut self, name: &Arc<str>) {
        self.dirty.insert(name.clone());
        self.restless.insert(name.clone());
    }

    /// Takes what a watch tells.
    pub(super) fn told(&mut self, kind: &'static Kind, told: Result<Change, Fault>, now: Instant) {
        let change = match told {
            Ok(change) => change,
            Err(fault) => return self.failed(kind, fault),
        };
        if self.faults.remove(kind.kind).is_some() {
            tracing::info!(%kind, "the API server answers again");
        }
        match change {
            Change::ListBegins => drop(self.listing.insert(kind.kind, HashSet::new())),
            Change::Listed(object) => {
                if let Ok(key) = Key::of(&object) {
                    self.listing.entry(kind.kind).or_default().insert(key);
                }
                self.seen(object, now);
            }
            Change::ListEnds => self.listed(kind, now),
            Change::Applied(object) => self.seen(object, now),
            Change::Deleted(object) => {
                if let Ok(key) = Key::of(&object) {
                    self.gone(&key, now);
                }
            }
        }
    }

    fn listed(&mut self, kind: &'static Kind, now: Instant) {
        let listed = self.listing.remove(kind.kind).unwrap_or_default();
        let is_gone = |key: &&Key| key.kind.kind == kind.kind && !listed.contains(*key);
        let all = self.live.values().flat_map(HashMap::keys);
        let gone: Vec<_> = all.filter(is_gone).cloned().collect();
        gone.iter().for_each(|key| self.gone(key, now));
        if self.unlisted.remove(kind.kind) && self.unlisted.is_empty() {
            // What there is too much of can be told now.
            self.dirty.extend(self.sets.keys().cloned());
        }
    }

    fn failed(&mut self, kind: &'static Kind, fault: Fault) {
        if self.faults.get(kind.kind) != Some(&fault) {
            tracing::warn!(%kind, %fault, "cannot watch; tried again, and all is served as before");
        }
        let is_missing = matches!(fault, Fault::KindMissing(_));
        self.faults.insert(kind.kind, fault);
        if is_missing && self.unlisted.remove(kind.kind) && self.unlisted.is_empty() {
            self.dirty.extend(self.sets.keys().cloned());
        }
    }

    fn seen(&mut self, object: Value, now: Instant) {
        let Ok(key) = Key::of(&object) else { return };
        let Some(name) = (self.set_of)(&object) else { return };
        let name: Arc<str> = name.into();
        if let Some(set) = self.sets.get_mut(&name) {
            let found = set.accepted(&key).and_then(|applied| difference(applied, &object));
            if let Some(found) = found.filter(|_| !set.is_ahead(&key, &object)) {
                set.correct(&key, truce(&mut self.corrections, &key, now));
                self.drifts.push(drifted(&name, &key, found));
                self.drifting.insert(key.clone());
            }
            self.touch(&name);
        }
        self.live.entry(name).or_default().insert(key, object);
    }

    fn gone(&mut self, key: &Key, now: Instant) {
        let found = self.live.iter_mut().find(|(_, of)| of.contains_key(key));
        let Some((name, of_set)) = found else { return };
        of_set.remove(key);
        let name = name.clone();
        if let Some(set) = self.sets.get_mut(&name).filter(|set| set.accepted(key).is_some()) {
            set.correct(key, truce(&mut self.corrections, key, now));
            let found = Difference { field: "deleted".to_owned(), by: None };
            self.drifts.push(drifted(&name, key, found));
            self.drifting.insert(key.clone());
        }
        self.touch(&name);
    }

    /// The next thing to do, if there is any.
    pub(super) fn next_work(&mut self, now: Instant) -> Option<Work> {
        self.adopt(now);
        let mut found = None;
        let mut settled = Vec::new();
        for name in &self.dirty {
            let Some(set) = self.sets.get(name) else {
                settled.push(name.clone());
                continue;
            };
            if !set.is_due(now) {
                continue;
            }
            let known = self.unlisted.is_empty();
            let apply = set.to_apply(now);
            // Nothing is removed before a controller has accepted what takes its place: it would be in neither.
            let nothing = HashMap::new();
            let replaced = set.is_replaced(self.live.get(name).unwrap_or(&nothing), now);
            let delete = if known && replaced { self.leftovers(name, set) } else { Vec::new() };
            if !apply.is_empty() || !delete.is_empty() {
                found = Some(Work { set: name.clone(), apply, delete });
                break;
            }
            if known && !set.is_held_up(now) {
                settled.push(name.clone());
            }
        }
        settled.iter().for_each(|name| self.settle(name));
        let work = found.filter(|work| !work.apply.is_empty() || !work.delete.is_empty())?;
        self.sets.get_mut(&work.set)?.begin();
        Some(work)
    }

    /// There is nothing to do about a set.
    fn settle(&mut self, name: &Arc<str>) {
        self.dirty.remove(name);
        if self.sets.get(name).is_some_and(Set::is_over) {
            self.sets.remove(name);
            self.live.remove(name);
        }
    }

    /// Takes over sets of which there are objects and that nobody wants.
    fn adopt(&mut self, now: Instant) {
        if !self.complete || !self.unlisted.is_empty() {
            return;
        }
        self.complete = false;
        for name in self.live.keys().filter(|name| !self.sets.contains_key(*name)) {
            self.dirty.insert(name.clone());
        }
        for name in self.dirty.clone() {
            self.sets.entry(name).or_insert_with(|| Set::new(now));
        }
    }

    /// What the set has and should not: routes first, so that none is served without its policies.
    fn leftovers(&self, name: &str, set: &Set) -> Vec<(Key, String)> {
        let uid = |object: &Value| {
            let uid = object.pointer("/metadata/uid").and_then(Value::as_str);
            uid.unwrap_or_default().to_owned()
        };
        let live = self.live.get(name).into_iter().flatten();
        let live = live.filter(|(key, _)| !set.has(key));
        let mut found: Vec<_> = live.map(|(key, object)| (key.clone(), uid(object))).collect();
        found.sort_by_key(|(key, _)| {
            (key.kind.kind != "HTTPRoute", key.kind.kind, key.name.clone())
        });
        found
    }

    /// Takes what became of work.
    pub(super) fn done(&mut self, done: Done, now: Instant) {
        let Some(set) = self.sets.get_mut(&done.set) else { return };
        let live = self.live.entry(done.set.clone()).or_default();
        for (object, applied) in done.applied {
            set.applied(&object, applied.clone());
            if self.drifting.remove(object.key()) {
                let (set, object) = (done.set.to_string(), object.key().to_string());
                self.drifts.push(Report::Corrected { set, object });
            }
            // The watch may be ahead.
            let known = live.get(object.key());
            if known.is_none_or(|known| version(known) < version(&applied)) {
                live.insert(object.key().clone(), applied);
            }
        }
        for key in &done.deleted {
            live.remove(key);
            self.drifting.remove(key);
        }
        set.ended(done.fault, now);
        self.touch(&done.set);
    }

    /// What has changed since the last call.
    pub(super) fn reports(&mut self, now: Instant) -> Vec<Report> {
        let mut reports = mem::take(&mut self.drifts);
        for name in mem::take(&mut self.restless) {
            let Some(set) = self.sets.get_mut(&name) else { continue };
            let nothing = HashMap::new();
            let (changed, rests) = set.changed(self.live.get(&name).unwrap_or(&nothing), now);
            if let Some(standing) = changed {
                let (set, revision) = (name.to_string(), set.revision());
                reports.push(Report::Stands { set, revision, standing });
            }
            if !rests {
                self.restless.insert(name);
            }
        }
        reports
    }
}

fn drifted(set: &str, key: &Key, found: Difference) -> Report {
    metrics::counter!("imp_kube_drifts_total").increment(1);
    let Difference { field, by } = found;
    let object = key.to_string();
    tracing::warn!(object, field, by, "somebody else has changed an object; it is corrected");
    Report::Drifted { set: set.to_owned(), object, field, by }
}

/// When an object may be corrected again: at once, unless there is a fight about it.
fn truce(corrections: &mut HashMap<Key, VecDeque<Instant>>, key: &Key, now: Instant) -> Instant {
    let lately = corrections.entry(key.clone()).or_default();
    while lately.front().is_some_and(|at| now.saturating_duration_since(*at) > FIGHT) {
        lately.pop_front();
    }
    let beyond = lately.len().saturating_sub(PATIENCE);
    lately.push_back(now);
    if beyond == 0 {
        return now;
    }
    let wait =
        Duration::from_millis(500) * 2_u32.saturating_pow(u32::try_from(beyond).unwrap_or(16));
    now + wait.min(LONGEST_TRUCE)
}

/// The API server's counter, which is a number in practice.
fn version(object: &Value) -> u64 {
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
