//! Runs one SQL text on either database, and builds the few that depend on parameters.

use std::borrow::Cow;

use imp_core::stored;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::types::{Json, JsonRawValue};
use sqlx::{ColumnIndex, Database, Decode, Encode, FromRow, QueryBuilder, Row, Type};
use uuid::Uuid;

use crate::batch::{SqliteConn, Statement};
use crate::{Result, StoreError};

/// Runs a statement and returns the number of affected rows.
macro_rules! execute {
    ($conn:expr, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let sql: &'static str = $sql;
        match $conn {
            $crate::db::Conn::Sqlite(conn) => {
                let statement = conn.statement(sql)$(.bind($bind))*;
                statement.answer().await.map(|answer| answer.rows_affected)
            }
            $crate::db::Conn::Pg(conn) => {
                let query = sqlx::query::<sqlx::Postgres>(sql)$(.bind($bind))*;
                let done = $crate::span::traced(sql, query.execute(conn)).await;
                done.map(|done| done.rows_affected()).map_err($crate::StoreError::from)
            }
        }
    }};
}

/// Runs a query and returns its rows as `$row`, which derives `FromRow`.
macro_rules! fetch {
    ($conn:expr, $table:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let sql: &'static str = $sql;
        let rows: $crate::Result<Vec<$row>> = match $conn {
            $crate::db::Conn::Sqlite(conn) => {
                let statement = conn.statement(sql)$(.bind($bind))*;
                statement.answer().await.and_then(|answer| $crate::sql::all($table, &answer.rows))
            }
            $crate::db::Conn::Pg(conn) => {
                let query = sqlx::query::<sqlx::Postgres>(sql)$(.bind($bind))*;
                let rows = $crate::span::traced(sql, query.fetch_all(conn)).await;
                rows.map_err($crate::StoreError::from)
                    .and_then(|rows| $crate::sql::all($table, &rows))
            }
        };
        rows
    }};
}

/// Like [`execute!`], for a statement whose answer nobody needs at once: on SQLite it goes with the next
/// one. `$judge` gets the number of affected rows or the error; one that may refuse a number needs
/// [`crate::Tx::will_judge`].
macro_rules! later {
    ($conn:expr, $judge:expr, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let sql: &'static str = $sql;
        let judge: fn($crate::Result<u64>) -> $crate::Result<()> = $judge;
        match $conn {
            $crate::db::Conn::Sqlite(conn) => {
                let statement = conn.statement(sql)$(.bind($bind))*;
                statement.later(judge)
            }
            $crate::db::Conn::Pg(conn) => {
                let query = sqlx::query::<sqlx::Postgres>(sql)$(.bind($bind))*;
                let done = $crate::span::traced(sql, query.execute(conn)).await;
                judge(done.map(|done| done.rows_affected()).map_err($crate::StoreError::from))
            }
        }
    }};
}

/// Like [`fetch!`], for rows that are needed later: on SQLite the query goes with the next statement.
/// `$read` makes the answer of all rows.
macro_rules! soon {
    ($conn:expr, $table:expr, $row:ty, $read:expr, $sql:expr $(, $bind:expr)* $(,)?) => {{
        let sql: &'static str = $sql;
        let read = $read;
        match $conn {
            $crate::db::Conn::Sqlite(conn) => {
                let statement = conn.statement(sql)$(.bind($bind))*;
                statement.soon(move |rows| $crate::sql::all::<$row, _>($table, rows).and_then(read))
            }
            $crate::db::Conn::Pg(conn) => {
                let query = sqlx::query::<sqlx::Postgres>(sql)$(.bind($bind))*;
                let rows = $crate::span::traced(sql, query.fetch_all(conn)).await;
                rows.map_err($crate::StoreError::from)
                    .and_then(|rows| $crate::sql::all::<$row, _>($table, &rows))
                    .and_then(read)
                    .map($crate::Soon::ready)
            }
        }
    }};
}

/// Judges a statement that may affect any number of rows.
pub(crate) fn any(done: Result<u64>) -> Result<()> {
    done.map(drop)
}

/// Decodes rows; see [`decode`].
pub(crate) fn all<T, R>(table: &'static str, rows: &[R]) -> Result<Vec<T>>
where
    R: Row,
    T: for<'r> FromRow<'r, R>,
    for<'r> Uuid: Decode<'r, R::Database> + Type<R::Database>,
    for<'a> &'a str: ColumnIndex<R>,
{
    rows.iter().map(|row| decode(table, row)).collect()
}

/// Decodes a row as `T`. Returns [`StoreError::Corrupt`] if that fails, with the row's id if it has
/// one.
pub(crate) fn decode<'r, T, R>(table: &'static str, row: &'r R) -> Result<T>
where
    R: Row,
    T: FromRow<'r, R>,
    Uuid: Decode<'r, R::Database> + Type<R::Database>,
    for<'a> &'a str: ColumnIndex<R>,
{
    T::from_row(row).map_err(|error| StoreError::Corrupt {
        table,
        id: row.try_get::<Uuid, _>("id").ok(),
        why: crate::error::unreadable(&error),
    })
}

/// A fieldless enum, stored as its JSON word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word<T>(pub(crate) T);

impl<T: Serialize> Word<T> {
    pub(crate) fn text(&self) -> String {
        match serde_json::to_value(&self.0) {
            Ok(serde_json::Value::String(word)) => word,
            // Only for a type that is no such enum; the column's CHECK refuses it.
            _ => String::new(),
        }
    }
}

impl<T, DB: Database> Type<DB> for Word<T>
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        String::type_info()
    }

    fn compatible(info: &DB::TypeInfo) -> bool {
        String::compatible(info)
    }
}

impl<'r, T: stored::Word, DB: Database> Decode<'r, DB> for Word<T>
where
    &'r str: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        Ok(Self(stored::read_word(<&str as Decode<DB>>::decode(value)?)?))
    }
}

impl<'q, T: Serialize, DB: Database> Encode<'q, DB> for Word<T>
where
    String: Encode<'q, DB>,
{
    fn encode_by_ref(
        &self,
        buffer: &mut DB::ArgumentBuffer,
    ) -> std::result::Result<IsNull, BoxDynError> {
        self.text().encode(buffer)
    }
}

/// A JSON column, in the shape of whichever release wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Stored<T>(pub(crate) T);

impl<T, DB: Database> Type<DB> for Stored<T>
where
    Json<serde_json::Value>: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <Json<serde_json::Value> as Type<DB>>::type_info()
    }

    fn compatible(info: &DB::TypeInfo) -> bool {
        <Json<serde_json::Value> as Type<DB>>::compatible(info)
    }
}

impl<'r, T: DeserializeOwned, DB: Database> Decode<'r, DB> for Stored<T>
where
    Json<&'r JsonRawValue>: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        let Json(raw) = <Json<&'r JsonRawValue> as Decode<DB>>::decode(value)?;
        Ok(Self(stored::read(raw.get())?))
    }
}

/// A JSON column whose row can be read even if the column cannot.
#[derive(Clone, Debug)]
pub(crate) struct Attempt<T>(pub(crate) std::result::Result<T, String>);

impl<T, DB: Database> Type<DB> for Attempt<T>
where
    Json<serde_json::Value>: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <Json<serde_json::Value> as Type<DB>>::type_info()
    }

    fn compatible(info: &DB::TypeInfo) -> bool {
        <Json<serde_json::Value> as Type<DB>>::compatible(info)
    }
}

impl<'r, T: DeserializeOwned, DB: Database> Decode<'r, DB> for Attempt<T>
where
    Stored<T>: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> std::result::Result<Self, BoxDynError> {
        let read = <Stored<T> as Decode<'r, DB>>::decode(value);
        Ok(Self(read.map(|Stored(it)| it).map_err(|error| error.to_string())))
    }
}

/// What a list or a look-up asks for: conditions that are only there when they are wanted, so that
/// the planner sees which index serves. Column names and SQL come from our own text, values are
/// always bound.
#[derive(Default)]
pub(crate) struct Conditions<'a>(Vec<Condition<'a>>);

struct Condition<'a> {
    before: &'static str,
    value: Value<'a>,
    after: &'static str,
}

enum Value<'a> {
    Id(Uuid),
    Text(Cow<'a, str>),
    Number(i64),
}

impl<'a> Conditions<'a> {
    /// `before` ends where the value follows: `tenant_id =`.
    pub(crate) fn id(&mut self, before: &'static str, value: Option<impl Into<Uuid>>) {
        self.id_in(before, value, "");
    }

    /// Like [`Self::id`], with SQL after the value: the closing parenthesis of a subquery.
    pub(crate) fn id_in(
        &mut self,
        before: &'static str,
        value: Option<impl Into<Uuid>>,
        after: &'static str,
    ) {
        let condition = |id: Uuid| Condition { before, value: Value::Id(id), after };
        self.0.extend(value.map(Into::into).map(condition));
    }

    pub(crate) fn text(&mut self, before: &'static str, value: Option<&'a str>) {
        self.text_in(before, value, "");
    }

    /// Like [`Self::text`], with SQL after the value.
    pub(crate) fn text_in(
        &mut self,
        before: &'static str,
        value: Option<&'a str>,
        after: &'static str,
    ) {
        let value = value.map(|text| Value::Text(Cow::Borrowed(text)));
        self.0.extend(value.map(|value| Condition { before, value, after }));
    }

    pub(crate) fn word<T: Serialize>(&mut self, before: &'static str, value: Option<T>) {
        let value = value.map(|word| Value::Text(Cow::Owned(Word(word).text())));
        self.0.extend(value.map(|value| Condition { before, value, after: "" }));
    }

    pub(crate) fn number(&mut self, before: &'static str, value: i64) {
        self.0.push(Condition { before, value: Value::Number(value), after: "" });
    }

    /// The query: `start`, which must have no WHERE, and all conditions.
    pub(crate) fn query<DB: Database>(self, start: &str) -> QueryBuilder<DB>
    where
        DB::Arguments: Default,
        for<'q> Uuid: Encode<'q, DB> + Type<DB>,
        for<'q> String: Encode<'q, DB> + Type<DB>,
        for<'q> i64: Encode<'q, DB> + Type<DB>,
    {
        let mut query = QueryBuilder::new(start);
        let mut join = " WHERE ";
        for Condition { before, value, after } in self.0 {
            query.push(join).push(before).push(" ");
            match value {
                Value::Id(id) => query.push_bind(id),
                Value::Text(text) => query.push_bind(text.into_owned()),
                Value::Number(number) => query.push_bind(number),
            };
            query.push(after);
            join = " AND ";
        }
        query
    }

    /// The same query on SQLite.
    pub(crate) fn statement<'c>(self, start: &str, conn: SqliteConn<'c>) -> Statement<'c> {
        let mut statement = conn.statement(start.to_owned());
        let mut join = " WHERE ";
        for Condition { before, value, after } in self.0 {
            statement = statement.push(join).push(before).push(" ");
            statement = match value {
                Value::Id(id) => statement.push_bind(id),
                Value::Text(text) => statement.push_bind(text.into_owned()),
                Value::Number(number) => statement.push_bind(number),
            };
            statement = statement.push(after);
            join = " AND ";
        }
        statement
    }
}
