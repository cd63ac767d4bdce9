//! The columns of tables, each named once: reads and writes are derived from one list.

use imp_core::secret::SecretHash;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx};

/// How a table is read.
pub(crate) trait Columns: Sized {
    /// The type that rows are read into.
    type Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Into<Self> + Send;

    /// Named explicitly: with `*`, a column added by a newer release would break prepared
    /// statements.
    const COLUMNS: &'static str;
}

/// How a table is written.
pub(crate) trait Written: Columns {
    /// Built once, so that each statement is prepared once per connection.
    fn statements() -> &'static Statements;

    /// Runs one of the statements. Only tables of secrets have a column for the hash.
    fn save(
        &self,
        tx: &mut Tx,
        sql: &'static str,
        expected: i64,
        secret: Option<&SecretHash>,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Runs one of the statements with the next one; `judge` gets the number of rows or the error.
    fn save_later(
        &self,
        tx: &mut Tx,
        sql: &'static str,
        expected: i64,
        judge: fn(Result<u64>) -> Result<()>,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// A table whose rows are exactly the object.
pub(crate) trait Plain: Written {}

/// A table whose rows also have the hash of a secret, which never changes.
pub(crate) trait Secret: Written {}

/// An immutable column: its name, and its type when read.
pub(crate) type Fixed = (&'static str, &'static str);

/// The statements that write rows. Both have the same parameters: the columns in order, those of
/// the meta data, the version that an UPDATE expects, and the hash of the secret.
pub(crate) struct Statements {
    pub(crate) insert: String,
    pub(crate) update: String,
}

impl Statements {
    /// Only the INSERT writes `fixed`; the first one is the primary key. `secret` is the column of
    /// the hash.
    pub(crate) fn new(
        table: &str,
        fixed: &[Fixed],
        changing: &[&str],
        secret: Option<&str>,
    ) -> Self {
        let names: Vec<&str> = fixed.iter().map(|(name, _)| *name).collect();
        let columns: Vec<&str> =
            [&names[..], changing, &["version", "created_at", "updated_at"]].concat();
        let list = |of: &mut dyn Iterator<Item = String>| of.collect::<Vec<_>>().join(", ");
        let numbered = |name: &str| {
            let at = columns.iter().position(|column| *column == name).unwrap_or_default() + 1;
            format!("{name} = ${at}")
        };
        let expected = columns.len() + 1;
        let places = (1..=columns.len()).chain(secret.map(|_| expected + 1));
        let inserted = columns.iter().copied().chain(secret);
        let changes = [changing, &["version", "updated_at"]].concat();
        // Where the tenant may be NULL, the key alone identifies the row.
        let is_key =
            |(name, of): &&Fixed| ["id", "tenant_id"].contains(name) && !of.starts_with("Option");
        let keys: Vec<String> =
            fixed.iter().filter(is_key).map(|(name, _)| numbered(name)).collect();
        Self {
            insert: format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                list(&mut inserted.map(str::to_owned)),
                list(&mut places.map(|at| format!("${at}"))),
            ),
            update: format!(
                "UPDATE {table} SET {} WHERE {} AND version = ${expected}",
                list(&mut changes.iter().map(|name| numbered(name))),
                keys.join(" AND "),
            ),
        }
    }
}

/// The columns of an object's table except those of its meta data: name, type when read, and value
/// when written. `fixed` are written by the INSERT only, `read` by separate statements, and
/// `written` are never read back. `secret` is the hash of the object's secret. `selected!()` is the
/// list of all columns that are read, for handwritten queries.
macro_rules! columns {
    (
        $object:ident as $it:ident;
        fixed { $($fixed:ident: $fixed_type:ty = $fixed_value:expr,)* }
        changing { $($column:ident: $type:ty = $value:expr,)* }
        $(read { $($read:ident: $read_type:ty,)* })?
        $(written { $($written:ident = $written_value:expr,)* })?
        $(secret { $secret:ident })?
    ) => {
        #[derive(sqlx::FromRow)]
        pub(crate) struct Row {
            $($fixed: $fixed_type,)*
            $($column: $type,)*
            $($($read: $read_type,)*)?
            #[sqlx(flatten)]
            meta: $crate::table::MetaRow,
        }

        macro_rules! selected {
            () => { $crate::table::columns::names!($($fixed)* $($column)* $($($read)*)?) };
        }

        impl $crate::table::columns::Columns for $object {
            type Row = Row;

            const COLUMNS: &'static str = selected!();
        }

        impl $crate::table::columns::Written for $object {
            fn statements() -> &'static $crate::table::columns::Statements {
                static ALL: std::sync::LazyLock<$crate::table::columns::Statements> =
                    std::sync::LazyLock::new(|| {
                        let fixed = [$((stringify!($fixed), stringify!($fixed_type))),*];
                        let changing: &[&str] =
                            &[$(stringify!($column),)* $($(stringify!($written),)*)?];
                        let secret: Option<&str> = [$(stringify!($secret))?].first().copied();
                        let table = <$object as $crate::Object>::TABLE;
                        $crate::table::columns::Statements::new(table, &fixed, changing, secret)
                    });
                &ALL
            }

            async fn save(
                &self,
                tx: &mut $crate::Tx,
                sql: &'static str,
                expected: i64,
                secret: Option<&imp_core::secret::SecretHash>,
            ) -> $crate::Result<u64> {
                let $it = self;
                execute!(
                    tx.conn(),
                    sql,
                    $($fixed_value,)*
                    $($value,)*
                    $($($written_value,)*)?
                    $it.meta.version,
                    $it.meta.created_at,
                    $it.meta.updated_at,
                    expected,
                    secret.map(|hash| hash.0.as_slice()),
                )
            }

            async fn save_later(
                &self,
                tx: &mut $crate::Tx,
                sql: &'static str,
                expected: i64,
                judge: fn($crate::Result<u64>) -> $crate::Result<()>,
            ) -> $crate::Result<()> {
                let $it = self;
                later!(
                    tx.conn(),
                    judge,
                    sql,
                    $($fixed_value,)*
                    $($value,)*
                    $($($written_value,)*)?
                    $it.meta.version,
                    $it.meta.created_at,
                    $it.meta.updated_at,
                    expected,
                )
            }
        }

        $crate::table::columns::kind!($object $($secret)?);
    };
}
pub(crate) use columns;

/// Whether the table has a secret's hash.
macro_rules! kind {
    ($object:ident) => {
        impl $crate::table::columns::Plain for $object {}
    };
    ($object:ident $secret:ident) => {
        impl $crate::table::columns::Secret for $object {}
    };
}
pub(crate) use kind;

/// A list of columns with those of the meta data.
macro_rules! names {
    ($($name:ident)*) => {
        concat!($(stringify!($name), ", ",)* "version, created_at, updated_at")
    };
}
pub(crate) use names;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_statements_have_the_same_parameters() {
        let fixed = [("id", "Uuid"), ("tenant_id", "Uuid"), ("product_id", "Uuid")];
        let all = Statements::new("plans", &fixed, &["status", "name"], None);
        assert_eq!(
            all.insert,
            "INSERT INTO plans (id, tenant_id, product_id, status, name, version, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
        );
        assert_eq!(
            all.update,
            "UPDATE plans SET status = $4, name = $5, version = $6, updated_at = $8 \
             WHERE id = $1 AND tenant_id = $2 AND version = $9"
        );
    }

    #[test]
    fn the_hash_of_a_secret_is_written_once() {
        let fixed = [("id", "Uuid"), ("tenant_id", "Option<Uuid>")];
        let all = Statements::new("api_tokens", &fixed, &["name"], Some("secret_hash"));
        assert_eq!(
            all.insert,
            "INSERT INTO api_tokens (id, tenant_id, name, version, created_at, updated_at, \
             secret_hash) VALUES ($1, $2, $3, $4, $5, $6, $8)"
        );
        assert_eq!(
            all.update,
            "UPDATE api_tokens SET name = $3, version = $4, updated_at = $6 \
             WHERE id = $1 AND version = $7"
        );
    }
}
