//! The file's format: redb, with every page verified before it is used.

use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use bytes::Bytes;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{
    Database, ReadTransaction, ReadableDatabase as _, ReadableTable as _, StorageBackend as _,
    TableDefinition, TableError,
};
use thiserror::Error;

use super::{Loaded, Table};

/// A row to write; `None` removes it.
pub(super) type Row = ((Table, String), Option<Bytes>);

/// The fact that counts writes.
const COMMIT: &str = "commit";

/// Bytes of pages that are kept in memory. Rows are read once, and written seldom.
const CACHE: usize = 1 << 20;

/// A problem with the file.
#[derive(Clone, Debug, Error)]
pub(super) enum Fault {
    /// Another process has it open.
    #[error("another process uses it")]
    InUse,
    /// Its content is damaged.
    #[error("damaged: {0}")]
    Damaged(String),
    /// The disk refuses access for now.
    #[error("{0}")]
    Refused(String),
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        let words = error.to_string().replace('\n', " ");
        match error {
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Refused(words),
            redb::Error::Io(io) => match io.kind() {
                ErrorKind::InvalidData | ErrorKind::UnexpectedEof | ErrorKind::InvalidInput => {
                    Self::Damaged(words)
                }
                _ => Self::Refused(words),
            },
            _ => Self::Damaged(words),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Refused(error.to_string())
    }
}

/// Catches panics: redb panics on some damaged files.
pub(super) fn caught<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Err(Fault::Damaged(words.unwrap_or_else(|| "it cannot be read".to_owned())))
    })
}

fn definition(table: Table) -> TableDefinition<'static, &'static str, &'static [u8]> {
    TableDefinition::new(match table {
        Table::Resources => "resources",
        Table::Proven => "proven",
        Table::Acked => "acked",
        Table::Refused => "refused",
        Table::Former => "former",
        Table::Rules => "rules",
        Table::Facts => "facts",
    })
}

/// Opens or creates the file, accessible to its owner only, and verifies the checksums of all
/// pages.
pub(super) fn open(path: &Path) -> Result<Database, Fault> {
    caught(|| {
        if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return Err(Fault::Damaged("it is no file".to_owned()));
        }
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        let backend = FileBackend::new(file).map_err(redb::Error::from)?;
        let mut builder = Database::builder();
        builder.set_check_integrity_on_open(true).set_cache_size(CACHE);
        Ok(builder.create_with_backend(backend).map_err(redb::Error::from)?)
    })
}

/// Reads all rows.
pub(super) fn load(database: &Database) -> Result<Loaded, Fault> {
    caught(|| Ok(read_all(database)?))
}

/// Reads all rows from a copy in memory, so that nothing is written, not even a repair.
pub(super) fn load_copy(path: &Path) -> Result<Loaded, Fault> {
    let bytes = std::fs::read(path)?;
    caught(|| {
        let backend = InMemoryBackend::new();
        let failed = |error| Fault::from(redb::Error::from(redb::StorageError::from(error)));
        backend.set_len(bytes.len() as u64).map_err(failed)?;
        backend.write(0, &bytes).map_err(failed)?;
        let mut builder = Database::builder();
        builder.set_check_integrity_on_open(true).set_cache_size(CACHE);
        let database = builder.create_with_backend(backend).map_err(redb::Error::from)?;
        Ok(read_all(&database)?)
    })
}

fn read_all(database: &Database) -> Result<Loaded, redb::Error> {
    let mut loaded = Loaded::default();
    let reading = database.begin_read()?;
    for table in Table::ALL {
        loaded.rows.insert(table, rows_of(&reading, table)?);
    }
    Ok(loaded)
}

fn rows_of(reading: &ReadTransaction, table: Table) -> Result<Vec<(String, Bytes)>, redb::Error> {
    let open = match reading.open_table(definition(table)) {
        Ok(open) => open,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut rows = Vec::new();
    for row in open.iter()? {
        let (key, value) = row?;
        rows.push((key.value().to_owned(), Bytes::copy_from_slice(value.value())));
    }
    Ok(rows)
}

/// The number of the last write; `None` if nothing was written yet.
pub(super) fn commit_of(loaded: &Loaded) -> Option<u64> {
    number(loaded.get(Table::Facts, COMMIT)?)
}

/// The same for an open file.
pub(super) fn commit_in(database: &Database) -> Result<Option<u64>, Fault> {
    caught(|| {
        let rows = rows_of(&database.begin_read().map_err(redb::Error::from)?, Table::Facts)?;
        Ok(rows.iter().find(|(key, _)| key == COMMIT).and_then(|(_, value)| number(value)))
    })
}

fn number(value: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(<[u8; 8]>::try_from(value).ok()?))
}

/// Writes all rows or none; they are on disk when this returns. `clear` removes the previous
/// content.
pub(super) fn write(
    database: &Database,
    rows: &[Row],
    commit: u64,
    clear: bool,
) -> Result<(), Fault> {
    caught(|| Ok(transact(database, rows, commit, clear)?))
}

fn transact(
    database: &Database,
    rows: &[Row],
    commit: u64,
    clear: bool,
) -> Result<(), redb::Error> {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let writing = database.begin_write()?;
    for table in Table::ALL {
        if clear {
            writing.delete_table(definition(table))?;
        }
        let mut open = writing.open_table(definition(table))?;
        for ((_, key), value) in sorted.iter().filter(|row| row.0.0 == table) {
            match value {
                Some(value) => drop(open.insert(key.as_str(), value.as_ref())?),
                None => drop(open.remove(key.as_str())?),
            }
        }
        if table == Table::Facts {
            open.insert(COMMIT, commit.to_be_bytes().as_slice())?;
        }
    }
    writing.commit()?;
    Ok(())
}
