//! What the server can know of the client.

use std::collections::BTreeMap;

use super::{Request, TYPES, Wants};
use crate::ResourceSet;
use crate::stream::{Answer, Entry};

/// What the requests that the server has read say about the client.
#[derive(Debug, Default)]
pub(super) struct Known {
    wants: [Wants; 2],
    pub(super) has: [BTreeMap<String, String>; 2],
}

impl Known {
    /// A request that is not stale.
    pub(super) fn read(
        &mut self,
        t: usize,
        request: &Request,
        answer: Option<&Answer>,
        set: &ResourceSet,
    ) {
        answer.iter().for_each(|answer| self.answered(t, answer));
        self.subscribe(t, request, set);
        let wants = &self.wants[t];
        self.has[t].retain(|name, _| wants.want(name));
    }

    fn subscribe(&mut self, t: usize, request: &Request, set: &ResourceSet) {
        let wants = &mut self.wants[t];
        let first = !std::mem::replace(&mut wants.started, true);
        match request {
            Request::Delta(delta) => {
                for name in &delta.resource_names_subscribe {
                    wants.all |= name == "*";
                    wants.names.insert(name.clone());
                }
                for name in &delta.resource_names_unsubscribe {
                    wants.all &= name != "*";
                    wants.names.remove(name);
                }
                let type_url = TYPES[t].into();
                for (name, version) in delta.initial_resource_versions.iter().filter(|_| first) {
                    if set.get(&type_url, name).is_some_and(|now| **now.version() == **version) {
                        self.has[t].insert(name.clone(), version.clone());
                    }
                }
            }
            Request::List(list) => {
                wants.all = list.resource_names.iter().any(|name| name == "*");
                wants.names = list.resource_names.iter().cloned().collect();
            }
        }
    }

    fn answered(&mut self, t: usize, answer: &Answer) {
        for sent in answer.resources.iter() {
            match (&answer.refusal, sent.version()) {
                (None, Some(version)) => {
                    self.has[t].insert(sent.name().to_string(), version.to_string());
                }
                (Some(_), Some(_)) if !matches!(sent.0, Entry::Upsert(..)) => {}
                _ => drop(self.has[t].remove(&**sent.name())),
            }
        }
    }
}
