//! The file.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use thiserror::Error;

use super::{Loaded, Table};

/// Why there is no store.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process holds the file.
    #[error("{path} is in use: another imp-agent runs on this state directory (--state-dir)")]
    InUse {
        /// The file.
        path: String,
    },
    /// It cannot be read.
    #[error(
        "cannot use the state {path}: {why}. Move it away to start without last-known-good; the \
         agent's identity is in another file and stays"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// In words.
        why: String,
    },
}

/// A row to write: None removes it.
pub(super) type Row = ((Table, String), Option<Bytes>);

#[derive(Debug)]
pub(super) struct Disk {
    database: Database,
    path: PathBuf,
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(match table {
        Table::Resources => "resources",
        Table::Proven => "proven",
        Table::Acked => "acked",
        Table::Refused => "refused",
        Table::Former => "former",
        Table::Usage => "usage",
        Table::Facts => "facts",
    })
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<(Self, Loaded), OpenError> {
        let shown = path.display().to_string();
        let database = Database::create(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: shown.clone() },
            other => unreadable(&shown, &other),
        })?;
        let disk = Self { database, path: path.to_owned() };
        disk.write(Vec::new()).map_err(|error| unreadable(&shown, &error))?;
        let loaded = disk.load().map_err(|error| unreadable(&shown, &error))?;
        Ok((disk, loaded))
    }

    fn load(&self) -> Result<Loaded, redb::Error> {
        let mut loaded = Loaded::default();
        let reading = self.database.begin_read()?;
        for table in Table::ALL {
            let mut rows = Vec::new();
            for row in reading.open_table(definition(table))?.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), Bytes::copy_from_slice(value.value())));
            }
            loaded.rows.insert(table, rows);
        }
        Ok(loaded)
    }

    /// All or nothing, on disk when this returns. Makes missing tables.
    pub(super) fn write(&self, mut rows: Vec<Row>) -> Result<(), redb::Error> {
        rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut writing = self.database.begin_write()?;
        // After a crash nothing is walked through: a start must not take longer by that.
        writing.set_quick_repair(true);
        for table in Table::ALL {
            let mut open = writing.open_table(definition(table))?;
            for ((_, key), value) in rows.iter().filter(|((of, _), _)| *of == table) {
                match value {
                    Some(value) => open.insert(key.as_str(), value.as_ref())?,
                    None => open.remove(key.as_str())?,
                };
            }
        }
        writing.commit()?;
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn unreadable(path: &str, why: &dyn std::fmt::Display) -> OpenError {
    OpenError::Unreadable { path: path.to_owned(), why: why.to_string().replace('\n', " ") }
}
