//! Applies updates to the state.

use std::collections::HashSet;
use std::sync::Arc;

use imp_enforce::{Credential, Entitlement, PublishAccess};
use imp_proto::config as pb;
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
    /// What is held, to know what a snapshot no longer has.
    held: HashSet<Named>,
    /// The snapshot that is coming.
    coming: Option<Coming>,
}

/// The parts of a snapshot that have come.
#[derive(Debug, Default)]
struct Coming {
    /// Put already, as nothing is decided by the state before its first snapshot is whole.
    put: HashSet<Named>,
    /// Put with the last part.
    waiting: Vec<Item>,
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
        let (history, held) = (String::new(), HashSet::new());
        Self { state, history, version: 0, held, coming: None }
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
        self.held.extend(self.coming.take().unwrap_or_default().put);
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
            let name = self.put(item);
            self.held.extend(name);
        }
        update.remove.into_iter().filter_map(|name| name.named).for_each(|name| self.drop(&name));
        self.version = update.version;
        Ok(Some(self.version))
    }

    fn part(&mut self, update: Update) -> Option<u64> {
        let mut coming = self.coming.take().unwrap_or_default();
        if self.state.is_loaded() {
            coming.waiting.extend(update.put);
        } else {
            coming.put.extend(update.put.into_iter().filter_map(|item| self.put(item)));
        }
        if update.more {
            self.coming = Some(coming);
            return None;
        }
        let Coming { mut put, waiting } = coming;
        put.extend(waiting.into_iter().filter_map(|item| self.put(item)));
        let before = std::mem::replace(&mut self.held, put);
        let gone: Vec<Named> =
            before.into_iter().filter(|name| !self.held.contains(name)).collect();
        gone.iter().for_each(|name| self.drop(name));
        (self.history, self.version) = (update.history, update.version);
        self.state.open();
        Some(self.version)
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
        self.held.remove(name);
        match name {
            Named::Publish(id) => self.state.engine.remove_publish(id),
            Named::Entitlement(id) => self.state.engine.remove_entitlement(id),
            Named::Credential(id) => self.state.engine.remove_credential(id),
            Named::Host(host) => {
                if let Ok(port) = u16::try_from(host.port) {
                    self.state.hosts.remove(port, &host.pattern);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
