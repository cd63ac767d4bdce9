//! Applies updates to the state.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use imp_enforce::{Credential, Entitlement, Object, PublishAccess};
use imp_proto::config as pb;
use prost::Message as _;
use thiserror::Error;

use super::message::{Host, Item, Kind, Named, Rules, Update};
use crate::envoy;
use crate::state::State;

/// Applies updates, in order. The only writer of the state.
#[derive(Debug)]
pub(crate) struct Applier {
    state: Arc<State>,
    history: String,
    version: u64,
    /// Whether something may be held that the next snapshot does not have.
    holds: bool,
    hosts: HashSet<Host>,
    /// The snapshot that is coming.
    coming: Option<Coming>,
}

/// The parts of a snapshot that have come.
#[derive(Debug, Default)]
struct Coming {
    /// What it has, if something is held that it may not have.
    has: Option<Names>,
    /// Those that were held before.
    hosts: HashSet<Host>,
    /// Put with the last part, if something is decided meanwhile. Encoded, which is a fraction of the
    /// memory.
    waiting: Vec<Vec<u8>>,
}

/// Names by their hashes, which two names never share in practice: 128 bits, with keys of the process.
#[derive(Debug, Default)]
struct Names {
    all: HashSet<u128>,
    hashers: [RandomState; 2],
}

impl Names {
    fn hash(&self, object: Object, id: &str) -> u128 {
        let [low, high] = &self.hashers;
        let hash = |hasher: &RandomState| u128::from(hasher.hash_one((object, id)));
        hash(low) | hash(high) << 64
    }

    fn add(&mut self, name: &Named) {
        let (object, id) = match name {
            Named::Publish(id) => (Object::Publish, id),
            Named::Entitlement(id) => (Object::Entitlement, id),
            Named::Credential(id) => (Object::Credential, id),
            Named::Host(_) => return,
        };
        let hash = self.hash(object, id);
        self.all.insert(hash);
    }

    fn has(&self, object: Object, id: &str) -> bool {
        self.all.contains(&self.hash(object, id))
    }
}

/// Why an update cannot be applied. The agent must send a snapshot.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Refused {
    #[error("the update is for version {since} of {history:?}; version {held} is held")]
    Version { history: String, since: u64, held: u64 },
    #[error("a change came inside a snapshot")]
    Inside,
}

impl Applier {
    pub(crate) fn new(state: Arc<State>) -> Self {
        // Another one may have put something before.
        Self {
            holds: state.is_loaded(),
            state,
            history: String::new(),
            version: 0,
            hosts: HashSet::new(),
            coming: None,
        }
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The history and version that are held.
    pub(crate) fn holds(&self) -> (&str, u64) {
        (&self.history, self.version)
    }

    /// Drops what has come of a snapshot that will not be finished.
    pub(crate) fn abandon(&mut self) {
        // The next snapshot removes what it does not have.
        if let Some(coming) = self.coming.take() {
            self.holds = true;
            self.hosts.extend(coming.hosts);
        }
    }

    /// Applies an update. Returns the version that it makes; `None` if parts are missing.
    pub(crate) fn apply(&mut self, update: Update) -> Result<Option<u64>, Refused> {
        if update.since == 0 {
            return Ok(self.part(update));
        }
        if self.coming.is_some() {
            return Err(Refused::Inside);
        }
        if update.history != self.history || update.since != self.version {
            let Update { history, since, .. } = update;
            return Err(Refused::Version { history, since, held: self.version });
        }
        for item in update.put {
            self.put(item);
        }
        update.remove.into_iter().filter_map(|name| name.named).for_each(|name| self.drop(&name));
        self.version = update.version;
        Ok(Some(self.version))
    }

    fn part(&mut self, update: Update) -> Option<u64> {
        let mut coming = self.coming.take().unwrap_or_else(|| Coming {
            has: self.holds.then(Names::default),
            hosts: std::mem::take(&mut self.hosts),
            waiting: Vec::new(),
        });
        let Update { history, version, more, put, .. } = update;
        if self.state.is_loaded() {
            coming.waiting.push(Update { put, ..Update::default() }.encode_to_vec());
        } else {
            self.put_all(put, &mut coming.has);
        }
        if more {
            self.coming = Some(coming);
            return None;
        }
        let Coming { mut has, hosts, waiting } = coming;
        for part in waiting {
            // Encoded above.
            let part = Update::decode(part.as_slice()).unwrap_or_default();
            self.put_all(part.put, &mut has);
        }
        if let Some(has) = has {
            self.state.engine.retain(|object, id| has.has(object, id));
        }
        for host in hosts {
            if !self.hosts.contains(&host) {
                self.drop(&Named::Host(host));
            }
        }
        self.holds = true;
        (self.history, self.version) = (history, version);
        self.state.open();
        Some(self.version)
    }

    fn put_all(&mut self, items: Vec<Item>, has: &mut Option<Names>) {
        for name in items.into_iter().filter_map(|item| self.put(item)) {
            if let Some(has) = has {
                has.add(&name);
            }
        }
    }

    /// Puts one and returns its name. What was held under the name of an unreadable one is removed:
    /// it is not what the control plane wants.
    fn put(&mut self, item: Item) -> Option<Named> {
        let kind = item.kind?;
        let (name, read) = match kind {
            Kind::Rules(rules) => (Named::Publish(rules.id.clone()), self.rules(&rules)),
            Kind::Entitlement(message) => {
                (Named::Entitlement(message.id.clone()), self.entitlement(&message))
            }
            Kind::Credential(message) => {
                (Named::Credential(message.id.clone()), self.credential(&message))
            }
            Kind::Host(host) => {
                let read = self.host(&host);
                self.hosts.extend(read.is_ok().then(|| host.clone()));
                (Named::Host(host), read)
            }
        };
        match read {
            Ok(()) => Some(name),
            Err(error) => {
                envoy::error(&format!("{name:?} is removed, because it cannot be read: {error}"));
                self.drop(&name);
                None
            }
        }
    }

    fn rules(&self, rules: &Rules) -> Result<(), String> {
        let read = |json: &Vec<u8>| serde_json::from_slice::<PublishAccess>(json);
        let wanted = read(&rules.wanted).map_err(|error| error.to_string())?;
        let former: Result<Vec<_>, _> = rules.former.iter().map(read).collect();
        self.state.engine.put_rules(wanted, former.map_err(|error| error.to_string())?);
        Ok(())
    }

    fn entitlement(&self, message: &pb::Entitlement) -> Result<(), String> {
        let entitlement = Entitlement::parse(message).map_err(|error| error.to_string())?;
        self.state.engine.put_entitlement(entitlement);
        Ok(())
    }

    fn credential(&self, message: &pb::Credential) -> Result<(), String> {
        let credential = Credential::parse(message).map_err(|error| error.to_string())?;
        self.state.engine.put_credential(credential);
        Ok(())
    }

    fn host(&self, host: &Host) -> Result<(), String> {
        let port = u16::try_from(host.port).map_err(|_| "no port".to_owned())?;
        let put = self.state.hosts.put(port, &host.pattern);
        put.then_some(()).ok_or_else(|| "no host".to_owned())
    }

    fn drop(&mut self, name: &Named) {
        match name {
            Named::Publish(id) => self.state.engine.remove_publish(id),
            Named::Entitlement(id) => self.state.engine.remove_entitlement(id),
            Named::Credential(id) => self.state.engine.remove_credential(id),
            Named::Host(host) => {
                self.hosts.remove(host);
                if let Ok(port) = u16::try_from(host.port) {
                    self.state.hosts.remove(port, &host.pattern);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
