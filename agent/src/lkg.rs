//! The last-known-good: what the agent holds, on disk, so that it serves without a control plane.
//!
//! One crash-safe file. Writers only mark what changed ([`Lkg::put`], [`Lkg::remove`] never wait);
//! a thread of its own writes what is marked, many changes per transaction, so the disk is never in
//! the way of a change, and falls behind by as much as it takes to sync one transaction.

mod disk;
mod writer;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use imp_xds::wire;
use prost::Message as _;

pub use disk::OpenError;
use writer::Writer;

/// What is kept.
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
    /// Counter -> its state.
    Usage,
    /// Single facts: see [`crate::usage`] and [`crate::link`].
    Facts,
}

impl Table {
    pub(crate) const ALL: [Self; 7] = [
        Self::Resources,
        Self::Proven,
        Self::Acked,
        Self::Refused,
        Self::Former,
        Self::Usage,
        Self::Facts,
    ];
}

/// The store. Clones are one store.
#[derive(Clone, Debug)]
pub struct Lkg {
    writer: Arc<Writer>,
}

/// What was there at the start: (key, value) per table.
#[derive(Debug, Default)]
pub struct Loaded {
    rows: std::collections::HashMap<Table, Vec<(String, Bytes)>>,
}

impl Loaded {
    /// Takes the rows of a table out.
    pub fn take(&mut self, table: Table) -> Vec<(String, Bytes)> {
        self.rows.remove(&table).unwrap_or_default()
    }

    /// The rows of a table that was not taken out.
    pub fn rows(&self, table: Table) -> &[(String, Bytes)] {
        self.rows.get(&table).map_or(&[], Vec::as_slice)
    }

    /// One row of a table that was not taken out.
    pub fn get(&self, table: Table, key: &str) -> Option<&Bytes> {
        self.rows(table).iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }
}

impl Lkg {
    /// Opens or makes the file in the state directory, and reads all of it.
    pub fn open(state_dir: &Path) -> Result<(Self, Loaded), OpenError> {
        let (disk, loaded) = disk::Disk::open(&state_dir.join("lkg.redb"))?;
        let writer = Arc::new(Writer::start(disk)?);
        Ok((Self { writer }, loaded))
    }

    /// Marks a row as new or changed.
    pub fn put(&self, table: Table, key: impl Into<String>, value: impl Into<Bytes>) {
        self.writer.mark(table, key.into(), Some(value.into()));
    }

    /// Marks a row as gone.
    pub fn remove(&self, table: Table, key: impl Into<String>) {
        self.writer.mark(table, key.into(), None);
    }

    /// Returns once everything that was marked before is on disk; false: the disk refuses.
    pub async fn flush(&self) -> bool {
        self.writer.flush().await
    }

    /// Rows that are not on disk yet.
    pub fn behind(&self) -> usize {
        self.writer.behind()
    }

    /// Writes what is marked and ends the thread; nothing is written after this.
    pub fn close(&self) {
        self.writer.close();
    }
}

/// The key of a resource.
pub(crate) fn key(type_url: &str, name: &str) -> String {
    format!("{type_url} {name}")
}

/// The type URL and name of a key.
pub(crate) fn split(key: &str) -> Option<(&str, &str)> {
    key.split_once(' ')
}

/// A resource as a row.
pub(crate) fn row(type_url: &str, resource: &imp_xds::Resource) -> Bytes {
    let any = wire::Any { type_url: type_url.to_owned(), value: resource.value().clone() };
    let message = wire::Resource {
        name: resource.name().to_string(),
        version: resource.version().to_string(),
        resource: Some(any),
        ..Default::default()
    };
    message.encode_to_vec().into()
}

/// A row as a resource.
pub(crate) fn resource(row: Bytes) -> Option<imp_xds::Resource> {
    let message = wire::Resource::decode(row).ok()?;
    Some(imp_xds::Resource::new(message.name, message.version, message.resource?.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_marked_last_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (lkg, _) = Lkg::open(directory.path()).unwrap();
        lkg.put(Table::Facts, "a", "1");
        lkg.put(Table::Facts, "b", "1");
        assert!(lkg.flush().await);
        assert_eq!(lkg.behind(), 0);
        lkg.put(Table::Facts, "a", "2");
        lkg.remove(Table::Facts, "b");
        lkg.close();
        let (_, loaded) = Lkg::open(directory.path()).unwrap();
        assert_eq!(loaded.get(Table::Facts, "a").map(AsRef::as_ref), Some("2".as_bytes()));
        assert_eq!(loaded.get(Table::Facts, "b"), None);
    }

    #[test]
    fn two_agents_cannot_share_a_state() {
        let directory = tempfile::tempdir().unwrap();
        let (_lkg, _) = Lkg::open(directory.path()).unwrap();
        let error = Lkg::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("another imp-agent"), "{error}");
    }

    #[test]
    fn what_is_no_state_is_named_in_one_line() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lkg.redb"), "no database".repeat(1_000)).unwrap();
        let error = Lkg::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("lkg.redb") && !error.contains('\n'), "{error}");
    }
}
