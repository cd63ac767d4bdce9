//! The last-known-good: the agent's resources on disk, so that it can serve without a control
//! plane.
//!
//! One crash-safe file. Writers only mark what changed ([`Lkg::put`], [`Lkg::remove`] never wait);
//! a separate thread writes the marked rows, many per transaction and access rows first, so the
//! disk never delays a change.
//!
//! No problem with the file needs the operator. While the disk refuses writes (full, read-only),
//! the newest version of each row waits in memory, and the file is reopened with back-off. A
//! damaged file is moved aside; so is an older copy of it, which would undo revocations. When the
//! rows on disk are lost, [`Lkg::lost`] reports it, and everything is fetched again.

pub(crate) mod aside;
mod disk;
mod file;
mod lane;
mod revocations;
mod writer;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use imp_proto::config::ResourceType;
use imp_xds::wire;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::intake::is_rendered;
use disk::Disk;
pub use disk::OpenError;
use revocations::Revocations;
use writer::Writer;

/// What is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Type URL and name -> the resource as the control plane sent it.
    Resources,
    /// Type URL and name of a resource for Envoy -> the version that an Envoy has accepted.
    Proven,
    /// Publish -> the newest revision that every Envoy had acknowledged.
    Acked,
    /// Publish -> its status when Envoy refused the revision that is in `Resources`.
    Refused,
    /// Publish -> the revision that serves in place of the refused one.
    Former,
    /// Publish -> access rules of former revisions whose routes an Envoy may still run.
    Rules,
    /// Single facts: see [`crate::link`].
    Facts,
}

impl Table {
    pub(crate) const ALL: [Self; 7] = [
        Self::Resources,
        Self::Proven,
        Self::Acked,
        Self::Refused,
        Self::Former,
        Self::Rules,
        Self::Facts,
    ];
}

/// The store. Clones share it.
#[derive(Clone, Debug)]
pub struct Lkg {
    writer: Arc<Writer>,
    revocations: Arc<Revocations>,
}

/// The content at the start: (key, value) per table.
#[derive(Debug, Default)]
pub struct Loaded {
    rows: std::collections::HashMap<Table, Vec<(String, Bytes)>>,
}

impl Loaded {
    /// Takes the rows of a table.
    pub fn take(&mut self, table: Table) -> Vec<(String, Bytes)> {
        self.rows.remove(&table).unwrap_or_default()
    }

    /// The rows of a table that was not taken.
    pub fn rows(&self, table: Table) -> &[(String, Bytes)] {
        self.rows.get(&table).map_or(&[], Vec::as_slice)
    }

    /// One row of a table that was not taken.
    pub fn get(&self, table: Table, key: &str) -> Option<&Bytes> {
        let rows = self.rows(table);
        // They come from the file in the order of their keys.
        let place = rows.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok()?;
        rows.get(place).map(|(_, value)| value)
    }
}

impl Lkg {
    /// Opens or creates the file in the state directory, and reads all of it. Problems with the
    /// file are no error: they are repaired, or retried later.
    pub fn open(state_dir: &Path) -> Result<(Self, Loaded), OpenError> {
        let (disk, mut loaded) = Disk::start(&state_dir.join("lkg.redb"))?;
        let path = disk.path().display().to_string();
        let writer = Writer::start(Box::new(disk))
            .map_err(|why| OpenError::NoThread { path, why: why.to_string() })?;
        let revocations = Arc::new(Revocations::open(state_dir));
        let lkg = Self { writer: Arc::new(writer), revocations };
        lkg.withdraw(&mut loaded);
        Ok((lkg, loaded))
    }

    /// Drops the rows that were revoked just before the former process ended.
    fn withdraw(&self, loaded: &mut Loaded) {
        let versions = self.revocations.versions();
        if versions.is_empty() {
            return;
        }
        let rows = loaded.rows.entry(Table::Resources).or_default();
        rows.retain(|(key, row)| {
            let believed = versions.get(key).is_none_or(|version| is_of_version(row, version));
            if !believed {
                self.remove(Table::Resources, key.as_str());
            }
            believed
        });
        self.revocations.marked();
    }

    /// Records the new versions of these resources (empty: removed), some of which are revocations.
    /// These survive the process when this returns, before they are acknowledged. Call
    /// [`Self::put`] and [`Self::remove`] next, then [`Self::said`].
    pub fn say<'a>(&self, rows: impl IntoIterator<Item = (String, &'a str, bool)>) {
        self.revocations.say(rows);
    }

    /// Records that the rows given to [`Self::say`] are marked.
    pub fn said(&self) {
        self.revocations.marked();
    }

    /// Marks a row as new or changed.
    pub fn put(&self, table: Table, key: impl Into<String>, value: impl Into<Bytes>) {
        let key = key.into();
        self.writer.mark(is_access(table, &key), table, key, Some(value.into()));
    }

    /// Marks a row as removed.
    pub fn remove(&self, table: Table, key: impl Into<String>) {
        let key = key.into();
        self.writer.mark(is_access(table, &key), table, key, None);
    }

    /// Waits until everything marked before is on disk. Returns false if the disk refuses.
    pub async fn flush(&self) -> bool {
        self.writer.flush().await
    }

    /// The same for entitlements and credentials only, which are written first.
    pub async fn flush_access(&self) -> bool {
        let point = self.revocations.point();
        let flushed = self.writer.flush_access().await;
        if flushed {
            self.revocations.kept(point);
        }
        flushed
    }

    /// The number of rows that are not on disk yet.
    pub fn behind(&self) -> usize {
        self.writer.behind()
    }

    /// Why the disk refuses writes; `None` if it does not.
    pub fn failing(&self) -> Option<String> {
        self.writer.failing()
    }

    /// Waits until previously written rows were lost more often than `seen` times. Returns the
    /// count.
    pub async fn lost(&self, seen: u64) -> u64 {
        self.writer.lost(seen).await
    }

    /// Writes what is marked and ends the thread; nothing is written after this.
    pub fn close(&self) {
        self.writer.close();
    }
}

/// Whether the row is an access row: an entitlement or a credential.
fn is_access(table: Table, key: &str) -> bool {
    let of = split(key).and_then(|(type_url, _)| ResourceType::of(type_url));
    table == Table::Resources && of.is_some_and(|of| !is_rendered(of))
}

/// The key of a resource.
pub fn key(type_url: &str, name: &str) -> String {
    format!("{type_url} {name}")
}

/// The type URL and name of a key.
pub(crate) fn split(key: &str) -> Option<(&str, &str)> {
    key.split_once(' ')
}

/// Encodes a resource as a row.
pub fn row(type_url: &str, resource: &imp_xds::Resource) -> Bytes {
    let any = wire::Any { type_url: type_url.to_owned(), value: resource.value().clone() };
    let message = wire::Resource {
        name: resource.name().to_string(),
        version: resource.version().to_string(),
        resource: Some(any),
        ..Default::default()
    };
    message.encode_to_vec().into()
}

fn is_of_version(row: &Bytes, version: &str) -> bool {
    wire::Resource::decode(row.clone()).is_ok_and(|message| message.version == version)
}

/// Decodes a row; `None` if its bytes do not match its version, which is their hash.
pub(crate) fn resource(row: Bytes) -> Option<imp_xds::Resource> {
    let message = wire::Resource::decode(row).ok()?;
    let value = message.resource?.value;
    let digest: [u8; 32] = Sha256::digest(&value).into();
    let mut version = [0; 32];
    let whole = hex::encode_to_slice(&digest[..16], &mut version).is_ok()
        && message.version.as_bytes() == version;
    whole.then(|| imp_xds::Resource::new(message.name, message.version, value))
}

#[cfg(test)]
mod tests;
