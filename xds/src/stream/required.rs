//! Resources that wait until their client has others (R68).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::{Answer, Stream, TypeStream};
use crate::TypeUrl;
use crate::resource_set::{Position, View};

/// A resource of any type.
pub(super) type Key = (TypeUrl, Arc<str>);

/// Names of one type that are due, each with a resource that must be acknowledged first. They are
/// looked at again when that happens, so that picking what can be sent does not cost what cannot.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    names: HashMap<Arc<str>, Key>,
    by_required: HashMap<Key, HashSet<Arc<str>>>,
    /// The types of required resources, since the stream began.
    types: Vec<TypeUrl>,
}

impl Waiting {
    pub(super) fn add(&mut self, name: Arc<str>, required: Key) {
        self.remove(&name);
        if !self.types.contains(&required.0) {
            self.types.push(required.0.clone());
        }
        self.by_required.entry(required.clone()).or_default().insert(name.clone());
        self.names.insert(name, required);
    }

    pub(super) fn remove(&mut self, name: &str) -> bool {
        if self.names.is_empty() {
            return false;
        }
        let Some(required) = self.names.remove(name) else { return false };
        if let Some(names) = self.by_required.get_mut(&required) {
            names.remove(name);
            if names.is_empty() {
                self.by_required.remove(&required);
            }
        }
        true
    }

    /// Takes those that wait for this resource.
    pub(super) fn release(&mut self, required: &Key) -> HashSet<Arc<str>> {
        let names = self.by_required.remove(required).unwrap_or_default();
        for name in &names {
            self.names.remove(name);
        }
        names
    }

    /// Takes those that wait for a resource of this type.
    pub(super) fn release_type(&mut self, type_url: &TypeUrl) -> Vec<Arc<str>> {
        let keys: Vec<_> =
            self.by_required.keys().filter(|key| key.0 == *type_url).cloned().collect();
        keys.iter().flat_map(|key| self.release(key)).collect()
    }

    /// The types of required resources; perhaps some more.
    pub(super) fn types(&self) -> &[TypeUrl] {
        &self.types
    }

    /// The resources that are waited for.
    pub(super) fn required(&self) -> impl Iterator<Item = &Key> {
        self.by_required.keys()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&str) -> bool) {
        let unwanted: Vec<_> = self.names.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in unwanted {
            self.remove(&name);
        }
    }
}

/// The other types of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peers<'a> {
    before: &'a [TypeStream],
    after: &'a [TypeStream],
}

impl<'a> Peers<'a> {
    /// One type of a stream, and the others.
    pub(super) fn of(
        types: &'a mut [TypeStream],
        index: usize,
    ) -> Option<(&'a mut TypeStream, Self)> {
        let (before, rest) = types.split_at_mut_checked(index)?;
        let (of_type, after) = rest.split_first_mut()?;
        Some((of_type, Self { before, after }))
    }

    pub(super) fn find(self, type_url: &TypeUrl) -> Option<&'a TypeStream> {
        let mut all = self.before.iter().chain(self.after);
        all.find(|of_type| of_type.rules().type_url == *type_url)
    }
}

impl Stream {
    /// Makes due what waits for resources that the client has accepted.
    pub(super) fn release(&mut self, answer: &Answer, view: &View<'_>) {
        if answer.refusal.is_some() || !self.has_waiting() {
            return;
        }
        for sent in answer.resources.iter() {
            let key = (answer.type_url.clone(), sent.name().clone());
            self.types.iter_mut().for_each(|of_type| of_type.release(&key, view));
        }
    }

    /// Makes due what waits for resources of a type of which the client has told what it has.
    pub(super) fn release_type(&mut self, type_url: &str, view: &View<'_>) {
        if self.has_waiting() {
            let type_url = TypeUrl::from(type_url);
            self.types.iter_mut().for_each(|of_type| of_type.release_type(&type_url, view));
        }
    }

    /// Makes due what waits for resources that are gone.
    pub(super) fn release_gone(&mut self, view: &View<'_>, since: Position) {
        if !self.has_waiting() {
            return;
        }
        let types: BTreeSet<_> =
            self.types.iter().flat_map(TypeStream::required_types).cloned().collect();
        for type_url in types {
            for name in view.changed_since(&type_url, since) {
                if view.get(&type_url, name).is_none() {
                    let key = (type_url.clone(), name.clone());
                    self.types.iter_mut().for_each(|of_type| of_type.release(&key, view));
                }
            }
        }
    }

    fn has_waiting(&self) -> bool {
        self.types.iter().any(TypeStream::has_waiting)
    }
}
