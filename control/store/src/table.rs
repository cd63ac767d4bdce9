//! What all tables of entities share: reads within a scope, deletion, and errors that name the
//! violated constraint.

pub(crate) mod columns;

use std::fmt::Display;

use chrono::{DateTime, SubsecRound, Utc};
use imp_core::Meta;
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use uuid::Uuid;

use crate::db::Conn;
use crate::error::foreign_key;
use crate::span::traced;
use crate::sql::{Conditions, all, any};
use crate::table::columns::{Plain, Secret, Written};
use crate::{Result, Soon, Store, StoreError, Tx, schema};

/// A page of a list, ordered by id, which is the order of creation.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Only rows after this id.
    pub after: Option<Uuid>,
    /// The most rows.
    pub limit: i64,
}

impl Page {
    /// Everything, for lists that are known to be short.
    pub fn all() -> Self {
        Self { after: None, limit: i64::MAX }
    }
}

/// An object with a table of its own.
pub trait Object: Sized + Clone + Send + Sync + 'static {
    type Id: Copy + From<Uuid> + Into<Uuid> + Display + Send + Sync;
    type Filter: Default + Send + Sync;

    const TABLE: &'static str;

    fn id(&self) -> Self::Id;

    fn meta(&self) -> &Meta;

    fn meta_mut(&mut self) -> &mut Meta;
}

/// Implements what is the same for every [`Object`]: the key and the meta data are fields.
macro_rules! object {
    ($object:ident, $id:ident, $filter:ident, $table:literal) => {
        impl $crate::Object for $object {
            type Id = $id;
            type Filter = $filter;

            const TABLE: &'static str = $table;

            fn id(&self) -> $id {
                self.id
            }

            fn meta(&self) -> &imp_core::Meta {
                &self.meta
            }

            fn meta_mut(&mut self) -> &mut imp_core::Meta {
                &mut self.meta
            }
        }
    };
}
pub(crate) use object;

/// The operations of every object's table.
pub trait Record: Object {
    /// Returns the object, if it exists in the scope.
    fn get(
        store: &Store,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self>>> + Send;

    /// Like [`Record::get`], within a transaction.
    fn get_in(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Option<Self>>> + Send;

    /// Like [`Record::get_in`], for an object that is needed later.
    fn get_soon(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<Soon<Option<Self>>>> + Send;

    /// Returns a page of the objects in the scope that pass the filter, oldest first.
    fn list(
        store: &Store,
        scope: &TenantScope,
        filter: &Self::Filter,
        page: Page,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;

    /// Like [`Record::list`], within a transaction.
    fn list_in(
        tx: &mut Tx,
        scope: &TenantScope,
        filter: &Self::Filter,
        page: Page,
    ) -> impl Future<Output = Result<Vec<Self>>> + Send;

    /// Updates the row if its version is still `expected`; otherwise returns
    /// [`StoreError::VersionMismatch`]. Immutable columns, including the hash of a secret, stay.
    fn update(&self, tx: &mut Tx, expected: i64) -> impl Future<Output = Result<()>> + Send;

    /// Deletes the row. Returns false if there is none in the scope.
    fn delete(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> impl Future<Output = Result<bool>> + Send;
}

/// Operations of tables whose rows are exactly the object, without a secret's hash.
pub trait Writable: Record {
    /// Inserts the row.
    fn insert(&self, tx: &mut Tx) -> impl Future<Output = Result<()>> + Send;

    /// Like [`Writable::insert`], for a row whose references were read in this transaction and whose other
    /// values are not unique: what is wrong with it may be known only at the next statement.
    fn insert_later(&self, tx: &mut Tx) -> impl Future<Output = Result<()>> + Send;

    /// The same for an update of a row that was read in this transaction.
    fn update_later(&self, tx: &mut Tx, expected: i64) -> impl Future<Output = Result<()>> + Send;
}

/// How an object is mapped to its table.
pub(crate) trait Table: Object + Written {
    /// Adds the conditions of the scope.
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>);

    /// Adds the conditions of the filter.
    fn filter<'a>(filter: &'a Self::Filter, conditions: &mut Conditions<'a>);

    /// The references of the row, and the tenant that they must belong to.
    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, Vec::new())
    }

    /// Inserts the parts of the object that have tables of their own.
    fn insert_parts(&self, _: &mut Tx) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Deletes these parts, before the new ones are inserted.
    fn delete_parts(&self, _: &mut Tx) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

impl<T: Table + Plain> Writable for T {
    async fn insert(&self, tx: &mut Tx) -> Result<()> {
        insert(tx, self, None).await
    }

    async fn insert_later(&self, tx: &mut Tx) -> Result<()> {
        if !tx.is_alone() {
            return insert(tx, self, None).await;
        }
        self.save_later(tx, &T::statements().insert, 0, any).await?;
        self.insert_parts(tx).await
    }

    async fn update_later(&self, tx: &mut Tx, expected: i64) -> Result<()> {
        if !tx.is_alone() {
            return self.update(tx, expected).await;
        }
        tx.will_judge();
        self.save_later(tx, &T::statements().update, expected, updated).await?;
        self.delete_parts(tx).await?;
        self.insert_parts(tx).await
    }
}

/// Judges an UPDATE with a version that was read in its transaction, where nobody else writes: the caller
/// expected another one, or read another object.
fn updated(done: Result<u64>) -> Result<()> {
    match done? {
        0 => Err(StoreError::VersionMismatch { current: 0 }),
        _ => Ok(()),
    }
}

/// Inserts the row with the hash of its secret.
pub(crate) async fn insert_secret<T: Table + Secret>(
    tx: &mut Tx,
    object: &T,
    hash: &SecretHash,
) -> Result<()> {
    insert(tx, object, Some(hash)).await
}

async fn insert<T: Table>(tx: &mut Tx, object: &T, secret: Option<&SecretHash>) -> Result<()> {
    let done = object.save(tx, &T::statements().insert, 0, secret).await;
    let (tenant, references) = object.references();
    explained(tx, done, tenant, &references).await?;
    object.insert_parts(tx).await
}

impl<T: Table> Record for T {
    async fn get(store: &Store, scope: &TenantScope, id: Self::Id) -> Result<Option<Self>> {
        get(store.read().await?.conn(), scope, id.into()).await
    }

    async fn get_in(tx: &mut Tx, scope: &TenantScope, id: Self::Id) -> Result<Option<Self>> {
        get(tx.conn(), scope, id.into()).await
    }

    async fn get_soon(
        tx: &mut Tx,
        scope: &TenantScope,
        id: Self::Id,
    ) -> Result<Soon<Option<Self>>> {
        get_soon(tx.conn(), scope, id.into()).await
    }

    async fn list(
        store: &Store,
        scope: &TenantScope,
        filter: &Self::Filter,
        page: Page,
    ) -> Result<Vec<Self>> {
        list(store.read().await?.conn(), scope, filter, page).await
    }

    async fn list_in(
        tx: &mut Tx,
        scope: &TenantScope,
        filter: &Self::Filter,
        page: Page,
    ) -> Result<Vec<Self>> {
        list(tx.conn(), scope, filter, page).await
    }

    async fn update(&self, tx: &mut Tx, expected: i64) -> Result<()> {
        let done = self.save(tx, &T::statements().update, expected, None).await;
        let (tenant, references) = self.references();
        let rows = explained(tx, done, tenant, &references).await?;
        matched::<T>(tx, rows, self.id().into()).await?;
        self.delete_parts(tx).await?;
        self.insert_parts(tx).await
    }

    async fn delete(tx: &mut Tx, scope: &TenantScope, id: Self::Id) -> Result<bool> {
        delete::<T>(tx, scope, id.into()).await
    }
}

/// The scope's condition for tables with `tenant_id`.
pub(crate) fn tenant_only(scope: &TenantScope, conditions: &mut Conditions<'_>) {
    conditions.id("tenant_id =", scope.tenant());
}

/// The scope's conditions for tables with `tenant_id` and `customer_id`.
pub(crate) fn tenant_and_customer(scope: &TenantScope, conditions: &mut Conditions<'_>) {
    tenant_only(scope, conditions);
    conditions.id("customer_id =", scope.customer());
}

/// The conditions of one row.
fn one<T: Table>(scope: &TenantScope, id: Uuid) -> Conditions<'static> {
    let mut conditions = Conditions::default();
    conditions.id("id =", Some(id));
    T::scope(scope, &mut conditions);
    conditions
}

async fn get<T: Table>(conn: Conn<'_>, scope: &TenantScope, id: Uuid) -> Result<Option<T>> {
    let conditions = one::<T>(scope, id);
    let start = selecting::<T>();
    let rows: Vec<T::Row> = match conn {
        Conn::Sqlite(conn) => {
            let answer = conditions.statement(&start, conn).answer().await?;
            all(T::TABLE, &answer.rows)?
        }
        Conn::Pg(conn) => {
            let mut query = conditions.query::<sqlx::Postgres>(&start);
            all(T::TABLE, &traced(&start, query.build().fetch_all(conn)).await?)?
        }
    };
    Ok(rows.into_iter().next().map(Into::into))
}

async fn get_soon<T: Table>(
    conn: Conn<'_>,
    scope: &TenantScope,
    id: Uuid,
) -> Result<Soon<Option<T>>> {
    match conn {
        Conn::Sqlite(conn) => {
            let statement = one::<T>(scope, id).statement(&selecting::<T>(), conn);
            statement.soon(|rows| {
                let rows: Vec<T::Row> = all(T::TABLE, rows)?;
                Ok(rows.into_iter().next().map(Into::into))
            })
        }
        Conn::Pg(_) => Ok(Soon::ready(get(conn, scope, id).await?)),
    }
}

fn selecting<T: Table>() -> String {
    format!("SELECT {} FROM {}", T::COLUMNS, T::TABLE)
}

async fn list<T: Table>(
    conn: Conn<'_>,
    scope: &TenantScope,
    filter: &T::Filter,
    page: Page,
) -> Result<Vec<T>> {
    let mut conditions = Conditions::default();
    T::scope(scope, &mut conditions);
    T::filter(filter, &mut conditions);
    conditions.id("id >", page.after);
    select::<T>(conn, conditions, Some(page.limit)).await
}

/// Reads the rows that meet the conditions: a page by id, or all of them.
pub(crate) async fn select<T: Table>(
    conn: Conn<'_>,
    conditions: Conditions<'_>,
    limit: Option<i64>,
) -> Result<Vec<T>> {
    let start = selecting::<T>();
    let limit = limit.unwrap_or(i64::MAX);
    let rows: Vec<T::Row> = match conn {
        Conn::Sqlite(conn) => {
            // SQLite plans a statement again whenever a bare parameter of LIMIT is bound.
            let statement = conditions.statement(&start, conn);
            let statement = statement.push(" ORDER BY id LIMIT CAST(").push_bind(limit);
            all(T::TABLE, &statement.push(" AS BIGINT)").answer().await?.rows)?
        }
        Conn::Pg(conn) => {
            let mut query = conditions.query::<sqlx::Postgres>(&start);
            let query = query.push(" ORDER BY id LIMIT ").push_bind(limit).build();
            all(T::TABLE, &traced(&start, query.fetch_all(conn)).await?)?
        }
    };
    Ok(rows.into_iter().map(Into::into).collect())
}

async fn delete<T: Table>(tx: &mut Tx, scope: &TenantScope, id: Uuid) -> Result<bool> {
    let mut conditions = Conditions::default();
    conditions.id("id =", Some(id));
    T::scope(scope, &mut conditions);
    let start = format!("DELETE FROM {}", T::TABLE);
    let done = match tx.conn() {
        Conn::Sqlite(conn) => {
            conditions.statement(&start, conn).answer().await.map(|answer| answer.rows_affected)
        }
        Conn::Pg(conn) => {
            let mut query = conditions.query::<sqlx::Postgres>(&start);
            let done = traced(&start, query.build().execute(conn)).await;
            done.map(|done| done.rows_affected()).map_err(StoreError::from)
        }
    };
    match done {
        Ok(rows) => Ok(rows > 0),
        Err(error) => match foreign_key(&error) {
            None => Err(error),
            Some(("", _)) => Err(StoreError::InUse { by: who_refers(tx, T::TABLE, id).await? }),
            Some((by, _)) => Err(StoreError::InUse { by }),
        },
    }
}

/// Finds the table that prevents a deletion, by asking each that refers to this one without
/// cascading: SQLite does not name the foreign key.
async fn who_refers(tx: &mut Tx, table: &'static str, id: Uuid) -> Result<&'static str> {
    let referring = fetch!(
        tx.conn(),
        "sqlite_master",
        (String, String),
        "SELECT m.name, f.\"from\" FROM sqlite_master m, pragma_foreign_key_list(m.name) f \
         WHERE m.type = 'table' AND f.\"table\" = $1 AND f.\"to\" = 'id' \
         AND f.on_delete <> 'CASCADE'",
        table,
    )?;
    for (name, column) in referring {
        // Both names are from our own schema.
        let sql = format!("SELECT 1 FROM {name} WHERE {column} = $1 LIMIT 1");
        let Conn::Sqlite(conn) = tx.conn() else { break };
        if !conn.statement(sql).bind(id).answer().await?.rows.is_empty() {
            return Ok(schema::kind(&name));
        }
    }
    Ok("other objects")
}

/// A reference of a row: JSON field, table, id.
pub(crate) type Reference = (&'static str, &'static str, Option<Uuid>);

/// Replaces a foreign-key error of an INSERT or UPDATE by one that names the field.
pub(crate) async fn explained(
    tx: &mut Tx,
    done: Result<u64>,
    tenant: Option<Uuid>,
    references: &[Reference],
) -> Result<u64> {
    let error = match done {
        Ok(rows) => return Ok(rows),
        Err(error) => error,
    };
    match foreign_key(&error) {
        None => Err(error),
        Some(("", _)) => {
            Err(StoreError::MissingReference { field: missing(tx, tenant, references).await? })
        }
        Some((_, field)) => Err(StoreError::MissingReference { field }),
    }
}

/// The first reference to a missing row or to another tenant's.
async fn missing(
    tx: &mut Tx,
    tenant: Option<Uuid>,
    references: &[Reference],
) -> Result<&'static str> {
    for &(field, table, id) in references {
        let Some(id) = id else { continue };
        let owned = !matches!(table, "tenants" | "clusters");
        let mut conditions = Conditions::default();
        conditions.id("id =", Some(id));
        conditions.id("tenant_id =", tenant.filter(|_| owned));
        let Conn::Sqlite(conn) = tx.conn() else { break };
        let found = conditions.statement(&format!("SELECT 1 FROM {table}"), conn).answer().await?;
        if found.rows.is_empty() {
            return Ok(field);
        }
    }
    // All exist, so the first one does not fit the others.
    Ok(references.first().map_or("id", |(field, ..)| *field))
}

/// Checks the result of an UPDATE with an expected version.
pub(crate) async fn matched<T: Table>(tx: &mut Tx, rows: u64, id: Uuid) -> Result<()> {
    if rows > 0 {
        return Ok(());
    }
    let mut conditions = Conditions::default();
    conditions.id("id =", Some(id));
    let start = format!("SELECT version FROM {}", T::TABLE);
    let current: Option<(i64,)> = match tx.conn() {
        Conn::Sqlite(conn) => {
            let answer = conditions.statement(&start, conn).answer().await?;
            all(T::TABLE, &answer.rows)?.into_iter().next()
        }
        Conn::Pg(conn) => {
            let mut query = conditions.query::<sqlx::Postgres>(&start);
            query.build_query_as().fetch_optional(conn).await?
        }
    };
    Err(StoreError::VersionMismatch { current: current.map_or(0, |(version,)| version) })
}

/// The columns of [`Meta`].
#[derive(sqlx::FromRow)]
pub(crate) struct MetaRow {
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
}

impl From<MetaRow> for Meta {
    fn from(row: MetaRow) -> Self {
        Self { created_at: row.created_at, updated_at: row.updated_at, version: row.version }
    }
}

/// Truncates to microseconds, PostgreSQL's precision, also for SQLite.
pub(crate) fn micros(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}
