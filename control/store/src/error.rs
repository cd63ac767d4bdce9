//! The errors of the store.

use std::error::Error;

use sqlx::error::{DatabaseError, ErrorKind};
use thiserror::Error;
use uuid::Uuid;

use crate::schema;

/// The reason why an operation failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another object has this value already.
    #[error("this {field} is taken")]
    Taken {
        /// The JSON field.
        field: &'static str,
    },
    /// Other objects still refer to it.
    #[error("{by} still refer to it")]
    InUse {
        /// The kind of those objects, plural: `plans`.
        by: &'static str,
    },
    /// The object refers to one that does not exist or belongs to another tenant.
    #[error("{field} refers to nothing")]
    MissingReference {
        /// The JSON field.
        field: &'static str,
    },
    /// Someone else changed the object first.
    #[error("the object is at version {current} by now")]
    VersionMismatch {
        /// The current version; 0 if the object is gone.
        current: i64,
    },
    /// A row that cannot be decoded.
    #[error("{table} {}: {why}", id.map_or_else(|| "(unknown id)".to_owned(), |id| id.to_string()))]
    Corrupt {
        table: &'static str,
        /// The row's id, if that can be read.
        id: Option<Uuid>,
        /// The column and the reason.
        why: String,
    },
    /// The database cannot be reached or refuses to work; a retry may help.
    #[error("{0}")]
    Unavailable(String),
    /// The disk is full or failing and nothing was written. Works again once there is space.
    #[error("{0}")]
    StorageFull(String),
    /// The disk did not confirm a change, which may be kept or lost. Nobody is told of it before it
    /// is confirmed.
    #[error("{0}")]
    Unconfirmed(String),
    /// The database's file was removed or replaced, so writes to the open one would be lost.
    #[error("{0}")]
    Replaced(String),
    /// An internal or unexpected error.
    #[error(transparent)]
    Driver(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match &error {
            E::Database(cause) => match cause.kind() {
                ErrorKind::UniqueViolation => Self::Taken { field: unique_field(cause.as_ref()) },
                _ if is_disk(cause.as_ref()) => Self::StorageFull(one_line(&error)),
                _ if is_passing(cause.as_ref()) => Self::Unavailable(one_line(&error)),
                _ => Self::Driver(error),
            },
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed => {
                Self::Unavailable(one_line(&error))
            }
            _ => Self::Driver(error),
        }
    }
}

/// The foreign key that was violated, if that is the error: `(referring table, its JSON field)`.
/// SQLite does not name it; both are empty then.
pub(crate) fn foreign_key(error: &StoreError) -> Option<(&'static str, &'static str)> {
    let StoreError::Driver(sqlx::Error::Database(cause)) = error else { return None };
    // PostgreSQL distinguishes RESTRICT (23001, since version 18) from other violations (23503).
    let violated = cause.kind() == ErrorKind::ForeignKeyViolation
        || cause.code().is_some_and(|code| code == "23001" || code == "1811");
    violated.then(|| cause.constraint().map_or(("", ""), schema::parts))
}

/// The last column of the constraint; see migrations/README.md.
fn unique_field(cause: &dyn DatabaseError) -> &'static str {
    match cause.constraint() {
        Some(name) => schema::parts(name).1,
        // SQLite: "UNIQUE constraint failed: plans.product_id, plans.name"
        None => schema::field(cause.message().rsplit('.').next().unwrap_or_default()),
    }
}

/// Whether the disk is full or failing.
fn is_disk(cause: &dyn DatabaseError) -> bool {
    let Some(code) = cause.code() else { return false };
    match code.len() {
        // PostgreSQL: disk_full, io_error.
        5 => ["53100", "58030"].contains(&code.as_ref()),
        // SQLite, primary code: IOERR, FULL.
        _ => code.parse::<u32>().is_ok_and(|code| [10, 13].contains(&(code & 0xff))),
    }
}

/// Whether the error is about the server's state rather than the statement.
fn is_passing(cause: &dyn DatabaseError) -> bool {
    let Some(code) = cause.code() else { return false };
    match code.len() {
        // PostgreSQL: connection, resources, operator intervention, deadlock, lock timeout.
        5 => {
            ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01", "55P03", "25P03"].contains(&code.as_ref())
        }
        // SQLite, primary code: BUSY, LOCKED, READONLY, CORRUPT, CANTOPEN, NOTADB.
        _ => {
            let primary = code.parse::<u32>().map_or(0, |code| code & 0xff);
            [5, 6, 8, 11, 14, 26].contains(&primary)
        }
    }
}

/// The reason why a row cannot be decoded, on one line. JSON parsers quote the value, which may be
/// confidential to a tenant, so only its position is included.
pub(crate) fn unreadable(error: &sqlx::Error) -> String {
    if let sqlx::Error::ColumnDecode { index, source } = error
        && let Some(json) = source.downcast_ref::<serde_json::Error>()
    {
        let (line, column) = (json.line(), json.column());
        return format!("{index} is not what it should be at line {line} column {column}");
    }
    one_line(error)
}

/// An error and its causes on one line.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = inner.source();
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_row_is_said_without_its_content() {
        let json = serde_json::from_str::<u8>(r#""Basic c2VjcmV0""#).unwrap_err();
        assert!(json.to_string().contains("c2VjcmV0"), "the parser quotes");
        let error = sqlx::Error::ColumnDecode { index: "\"spec\"".into(), source: json.into() };
        let words = unreadable(&error);
        assert!(words.contains("spec") && !words.contains("c2VjcmV0"), "{words}");
    }
}
