//! The fleet as it was before a restart.

use std::sync::Arc;

use bytes::Bytes;
use imp_proto::agent as pb;
use prost::Message as _;

use super::core::{Core, RefusedBy, Revision};
use super::worlds::envoy_type;
use crate::intake::{self, Item, Kind, Publish};
use crate::lkg::{self, Loaded, Table};

impl Core {
    /// Gateways, publishes and what Envoys thought of them, entitlements, credentials. What cannot
    /// be read is left out: the control plane sends it again.
    pub(super) fn restore(&mut self, loaded: &mut Loaded) -> Vec<Restored> {
        let mut restored = Vec::new();
        for (item, row) in parse_all(loaded.take(Table::Resources)) {
            self.hold(item);
            restored.push(row);
        }
        for (id, wire) in loaded.take(Table::Refused) {
            let former = loaded.get(Table::Former, &id).cloned();
            self.restore_refusal(&id, wire, former);
        }
        self.follow_all();
        for (id, row) in loaded.take(Table::Acked) {
            if let Ok(revision) = <[u8; 8]>::try_from(row.as_ref()) {
                self.tracker.resume(&id, u64::from_be_bytes(revision));
            }
        }
        for (key, version) in loaded.take(Table::Proven) {
            self.restore_proof(&key, &version);
        }
        self.follow_all();
        restored
    }

    /// What Envoy refused before is not tried on it again: it may have kept it in memory, and would
    /// acknowledge the same bytes without serving them.
    fn restore_refusal(&mut self, id: &str, wire: Bytes, former: Option<Bytes>) {
        let by = RefusedBy::decode(wire.clone()).unwrap_or_default().marks;
        let Ok(status) = pb::PublishStatus::decode(wire) else { return };
        let former = former.and_then(|wire| intake::publish(wire, id).ok());
        let routes = former.as_ref().map(|former| former.routes.clone());
        let Some(delta) = self.assembly.set_refused(id, status.revision, routes) else { return };
        self.stage(delta);
        if let (Some(former), Some(revisions)) = (former, self.revisions.get_mut(id)) {
            let Publish { routes, access, wire } = former;
            revisions.former = Some(Revision { number: routes.revision, access, wire });
        }
        self.enforce(id);
        self.tracker.refuse(id, status.revision, status.error.unwrap_or_default(), &by);
        self.note_stale(id);
    }

    fn restore_proof(&mut self, key: &str, version: &[u8]) {
        let Some((type_url, name)) = lkg::split(key) else { return };
        let Ok(version) = std::str::from_utf8(version) else { return };
        let Some(type_url) = envoy_type(type_url) else { return };
        let delta = self.assembly.accepted("", type_url, name, version);
        self.stage(delta);
        self.proven.insert((type_url, Arc::from(name)), version.to_owned());
    }
}

/// A resource that was on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Parsing is most of a start, so all cores do it.
fn parse_all(rows: Vec<(String, Bytes)>) -> Vec<(Item, Restored)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = rows.len().div_ceil(cores).max(256);
    let parse_share = |rows: &[(String, Bytes)]| rows.iter().filter_map(parse).collect::<Vec<_>>();
    if rows.len() <= share {
        return parse_share(&rows);
    }
    std::thread::scope(|scope| {
        let shares = rows.chunks(share).map(|rows| scope.spawn(move || parse_share(rows)));
        let shares: Vec<_> = shares.collect();
        shares.into_iter().flat_map(|share| share.join().unwrap_or_default()).collect()
    })
}

fn parse((key, row): &(String, Bytes)) -> Option<(Item, Restored)> {
    let parsed = lkg::split(key).and_then(|(type_url, _)| {
        let (kind, resource) = (Kind::of(type_url)?, lkg::resource(row.clone())?);
        let item = intake::parse(kind, &resource).ok()?;
        let (name, version) = (resource.name().to_string(), resource.version().to_string());
        Some((item, Restored { kind, name, version }))
    });
    if parsed.is_none() {
        tracing::warn!(%key, "a row of the last-known-good cannot be read");
    }
    parsed
}
