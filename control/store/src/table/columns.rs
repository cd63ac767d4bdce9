//! The columns of tables, each named once: what is read and what is written follow from one list.

use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;

use crate::{Result, Tx};

/// What is read of a table.
pub(crate) trait Columns: Sized {
    /// What the columns are read into.
    type Row: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Into<Self> + Send;

    /// Named one by one: with `*`, a column added by a newer release would break prepared statements.
    const COLUMNS: &'static str;
}

/// What is written to a table.
pub(crate) trait Written: Columns {
    /// Made once, so that each is prepared once per connection.
    fn statements() -> &'static Statements;

    /// Runs one of them.
    fn save(
        &self,
        tx: &mut Tx,
        sql: &'static str,
        expected: i64,
    ) -> impl Future<Output = Result<u64>> + Send;
}

/// How rows of a table are written. Both have the same parameters: the columns in their order, those of
/// the meta data, and the version that an UPDATE expects.
pub(crate) struct Statements {
    pub(crate) insert: String,
    pub(crate) update: String,
}

impl Statements {
    /// `fixed` are written by the INSERT only; the first one is the primary key.
    pub(crate) fn new(table: &str, fixed: &[&str], changing: &[&str]) -> Self {
        let columns: Vec<&str> =
            [fixed, changing, &["version", "created_at", "updated_at"]].concat();
        let list = |of: &mut dyn Iterator<Item = String>| of.collect::<Vec<_>>().join(", ");
        let numbered = |name: &str| {
            let at = columns.iter().position(|column| *column == name).unwrap_or_default() + 1;
            format!("{name} = ${at}")
        };
        let places = list(&mut (1..=columns.len()).map(|at| format!("${at}")));
        let changes = [changing, &["version", "updated_at"]].concat();
        let keys = fixed.iter().filter(|name| ["id", "tenant_id"].contains(name));
        let keys: Vec<String> = keys.map(|name| numbered(name)).collect();
        Self {
            insert: format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", ")),
            update: format!(
                "UPDATE {table} SET {} WHERE {} AND version = ${}",
                list(&mut changes.iter().map(|name| numbered(name))),
                keys.join(" AND "),
                columns.len() + 1,
            ),
        }
    }
}

/// The columns of an object's table but those of its meta data: name, type as it is read, and value as it
/// is written. `selected!()` is the list of all names, for queries by hand.
macro_rules! columns {
    (
        $object:ident as $it:ident;
        fixed { $($fixed:ident: $fixed_type:ty = $fixed_value:expr,)* }
        changing { $($column:ident: $type:ty = $value:expr,)* }
    ) => {
        #[derive(sqlx::FromRow)]
        pub(crate) struct Row {
            $($fixed: $fixed_type,)*
            $($column: $type,)*
            #[sqlx(flatten)]
            meta: $crate::table::MetaRow,
        }

        macro_rules! selected {
            () => { $crate::table::columns::names!($($fixed)* $($column)*) };
        }

        impl $crate::table::columns::Columns for $object {
            type Row = Row;

            const COLUMNS: &'static str = selected!();
        }

        impl $crate::table::columns::Written for $object {
            fn statements() -> &'static $crate::table::columns::Statements {
                static ALL: std::sync::LazyLock<$crate::table::columns::Statements> =
                    std::sync::LazyLock::new(|| {
                        let fixed = [$(stringify!($fixed)),*];
                        let changing: &[&str] = &[$(stringify!($column)),*];
                        let table = <$object as $crate::Object>::TABLE;
                        $crate::table::columns::Statements::new(table, &fixed, changing)
                    });
                &ALL
            }

            async fn save(
                &self,
                tx: &mut $crate::Tx,
                sql: &'static str,
                expected: i64,
            ) -> $crate::Result<u64> {
                let $it = self;
                execute!(
                    tx.conn(),
                    sql,
                    $($fixed_value,)*
                    $($value,)*
                    $it.meta.version,
                    $it.meta.created_at,
                    $it.meta.updated_at,
                    expected,
                )
            }
        }
    };
}
pub(crate) use columns;

/// A list of columns and those of the meta data.
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
        let all = Statements::new("plans", &["id", "tenant_id", "product_id"], &["status", "name"]);
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
}
