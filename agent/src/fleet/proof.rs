//! What is remembered about a version that some Envoy has accepted.
//!
//! A publish is not rolled back while Envoys run it, even if the first Envoy after a restart
//! rejects it. So a proof survives a rejection and records who rejected it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use imp_translate::xds::names;
use imp_xds::StreamId;

use super::acknowledgements::Key;
use super::core::Core;
use crate::lkg::{self, Table};

/// A resource version that some Envoy has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) version: Arc<str>,
    /// Ids of nodes that rejected the same version. There are seldom any.
    refused_by: Option<BTreeSet<String>>,
}

/// The most nodes that a proof names.
const MOST: usize = 64;

impl Proof {
    pub(super) fn new(version: impl Into<Arc<str>>) -> Self {
        Self { version: version.into(), refused_by: None }
    }

    /// The nodes that rejected it.
    pub(super) fn refusers(&self) -> impl Iterator<Item = &String> {
        self.refused_by.iter().flatten()
    }

    /// Returns whether the node is new.
    pub(super) fn refused(&mut self, node: &str) -> bool {
        self.refusers().count() < MOST
            && self.refused_by.get_or_insert_default().insert(node.to_owned())
    }

    /// The stored row: the version, as a former release wrote it, then the nodes that rejected it
    /// on a second line. A former release finds no such version, and asks Envoys again.
    pub(super) fn row(&self) -> Bytes {
        let Some(refused_by) = &self.refused_by else { return self.version.to_string().into() };
        let refused_by = serde_json::to_string(refused_by).unwrap_or_default();
        format!("{}\n{refused_by}", self.version).into()
    }

    /// `None` if it is not such a row.
    pub(super) fn read(row: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(row).ok()?;
        let Some((version, refused_by)) = text.split_once('\n') else {
            return Some(Self::new(text));
        };
        let mut refused_by: BTreeSet<String> = serde_json::from_str(refused_by).ok()?;
        while refused_by.len() > MOST {
            refused_by.pop_last();
        }
        let refused_by = (!refused_by.is_empty()).then_some(refused_by);
        Some(Self { version: version.into(), refused_by })
    }
}

impl Core {
    /// Records that some Envoy accepted this version.
    pub(super) fn accepted(&mut self, key: Key, version: &Arc<str>) {
        let delta = self.assembly.accepted(key.0, &key.1, version);
        self.stage(delta);
        let says_something = !names::is_holder(key.0, &key.1);
        let is_news = self.proven.get(&key).is_none_or(|proof| proof.version != *version);
        if is_news && says_something {
            let gateway = self.assembly.gateway_with(key.0, &key.1);
            let gateway = gateway.map(|gateway| &**gateway);
            self.gateway_resources.mark_proven(gateway, key.0, &key.1, version);
            let mut proof = Proof::new(version.clone());
            let refusers = self.acks.refusers_of(&key, version);
            for node in refusers.filter_map(|stream| self.tracker.target(stream)) {
                proof.refused(&node.id);
            }
            self.lkg.put(Table::Proven, lkg::key(key.0, &key.1), proof.row());
            self.proven.insert(key, proof);
        }
    }

    /// Records that an Envoy rejected what another accepted. It stays accepted, also after a
    /// restart.
    pub(super) fn dispute(&mut self, stream: StreamId, key: &Key, version: &str) {
        let Some(node) = self.tracker.target(stream) else { return };
        let proof = self.proven.get_mut(key).filter(|proof| *proof.version == *version);
        if let Some(proof) = proof
            && proof.refused(&node.id)
        {
            self.lkg.put(Table::Proven, lkg::key(key.0, &key.1), proof.row());
        }
    }

    /// Nodes that rejected something that another accepted. They may have kept it in memory.
    pub(super) fn refusers(&self) -> impl Iterator<Item = &String> {
        self.proven.values().flat_map(Proof::refusers)
    }

    /// Marks the proven versions, so that a new Envoy gets in one message everything that was
    /// accepted before and never rejected.
    pub(super) fn mark_proven(&self) {
        self.gateway_resources.mark_all_proven(|type_url, resource| {
            let proof = self.proven.get(&(type_url, resource.name().clone()));
            proof.is_some_and(|it| it.version == *resource.version() && it.refused_by.is_none())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_who_refused_it_and_one_of_a_former_release_says_nobody_did() {
        let mut proof = Proof::new("v1");
        assert_eq!(proof.row(), "v1");
        assert_eq!(Proof::read(b"v1"), Some(proof.clone()));
        assert!(proof.refused("a\nb") && proof.refused("c"));
        assert!(!proof.refused("c"), "it is known");
        assert_eq!(Proof::read(&proof.row()), Some(proof));
        assert_eq!(Proof::read(b"v1\nwhat is this"), None);
        assert_eq!(Proof::read(b"\xff"), None);
    }

    #[test]
    fn no_more_nodes_are_named_than_fit() {
        let mut proof = Proof::new("v1");
        let news = (0..1_000).filter(|number| proof.refused(&number.to_string())).count();
        assert_eq!((news, proof.refusers().count()), (MOST, MOST));
    }
}
