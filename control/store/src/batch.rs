//! Statements on SQLite, several in one message.
//!
//! The driver has a thread for each connection, so every message to it costs two changes of threads, which
//! is more than most statements cost. Statements whose answers are not needed at once therefore wait, and
//! go with the next one. On PostgreSQL they are sent at once.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::mem::take;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::TryStreamExt as _;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments as _, AssertSqlSafe, Either, Encode, Executor as _};
use sqlx::{Sqlite, SqliteConnection, Type};

use crate::span::traced;
use crate::{Result, StoreError};

/// Longer texts are not kept prepared: there are too many different ones.
const PREPARED: usize = 16;

/// A transaction that begins by reading and writes later fails under contention.
const BEGIN: &str = "BEGIN IMMEDIATE";

/// The statements that wait for the next one of their transaction.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Their text; parameters are numbered through.
    sql: String,
    arguments: SqliteArguments,
    later: Vec<Later>,
    /// One may be refused although it did not fail. The connection's thread runs what stands behind it all
    /// the same, so that must not be the COMMIT.
    pub(crate) judged: bool,
    /// One has failed or was not answered, so the transaction must not be committed.
    failed: bool,
    /// Something was not answered as it should be, so the connection may be of no use any more.
    pub(crate) had_errors: bool,
    /// The first of them is the transaction's BEGIN, on this connection.
    begins: Option<Unfinished>,
}

/// Whether a connection may have an open transaction that was dropped. Clones are of the same connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unfinished(Arc<AtomicBool>);

impl Unfinished {
    pub(crate) fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, unfinished: bool) {
        self.0.store(unfinished, Ordering::Release);
    }
}

/// Keeps the rows for [`Soon`].
type Keep = Box<dyn FnOnce(&[SqliteRow]) + Send + Sync>;

/// What becomes of the answer to a statement that waited.
enum Later {
    /// Judges the number of affected rows, or the error.
    Write(fn(Result<u64>) -> Result<()>),
    Query(Keep),
}

impl Later {
    fn accept(self, answer: &Answer) -> Result<()> {
        match self {
            Self::Write(judge) => judge(Ok(answer.rows_affected)),
            Self::Query(keep) => {
                keep(&answer.rows);
                Ok(())
            }
        }
    }

    fn explain(self, error: StoreError) -> StoreError {
        match self {
            Self::Write(judge) => judge(Err(error)).err().unwrap_or_else(failed_before),
            Self::Query(_) => error,
        }
    }
}

/// The answer to one statement.
#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) rows_affected: u64,
    pub(crate) rows: Vec<SqliteRow>,
}

/// A connection, and the statements that wait for its next one.
pub(crate) struct SqliteConn<'c> {
    pub(crate) connection: &'c mut SqliteConnection,
    pub(crate) waiting: &'c mut Waiting,
}

impl<'c> SqliteConn<'c> {
    /// Begins a statement. Its parameters are `$1`, `$2` ..
    pub(crate) fn statement(self, sql: impl Into<Cow<'static, str>>) -> Statement<'c> {
        let before = self.waiting.arguments.len();
        Statement { conn: self, sql: sql.into(), before, fault: None }
    }

    /// Sends the statements that wait, and returns the connection.
    pub(crate) async fn alone(self) -> Result<&'c mut SqliteConnection> {
        let Self { connection, waiting } = self;
        if waiting.failed || !waiting.later.is_empty() {
            waiting.send(connection, None).await?;
        }
        Ok(connection)
    }
}

/// A statement that is being built.
pub(crate) struct Statement<'c> {
    conn: SqliteConn<'c>,
    sql: Cow<'static, str>,
    /// How many arguments the statements before it have.
    before: usize,
    fault: Option<BoxDynError>,
}

impl Statement<'_> {
    /// Binds the next parameter.
    pub(crate) fn bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(mut self, value: T) -> Self {
        if let Err(error) = self.conn.waiting.arguments.add(value) {
            self.fault.get_or_insert(error);
        }
        self
    }

    /// Appends to the text.
    pub(crate) fn push(mut self, sql: &str) -> Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Appends the next parameter.
    pub(crate) fn push_bind<'q, T: Encode<'q, Sqlite> + Type<Sqlite>>(mut self, value: T) -> Self {
        let place = self.conn.waiting.arguments.len() - self.before + 1;
        let _never_fails = write!(self.sql.to_mut(), "${place}");
        self.bind(value)
    }

    /// Sends the statement, behind those that wait.
    pub(crate) async fn answer(self) -> Result<Answer> {
        let Self { conn: SqliteConn { connection, waiting }, sql, before, fault } = self;
        waiting.accept(fault)?;
        let sql = if before == 0 { sql } else { numbered(&sql, before).into() };
        waiting.send(connection, Some(sql)).await
    }

    /// Has the statement wait; `judge` gets the number of affected rows or the error.
    pub(crate) fn later(self, judge: fn(Result<u64>) -> Result<()>) -> Result<()> {
        self.wait(Later::Write(judge))
    }

    /// Has the query wait; `read` reads its rows.
    pub(crate) fn soon<T: Send + 'static>(
        self,
        read: impl FnOnce(&[SqliteRow]) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Soon<T>> {
        let soon = Soon(Arc::default());
        let place = soon.0.clone();
        self.wait(Later::Query(Box::new(move |rows| {
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(read(rows));
        })))?;
        Ok(soon)
    }

    fn wait(self, later: Later) -> Result<()> {
        let Self { conn: SqliteConn { waiting, .. }, sql, before, fault } = self;
        waiting.accept(fault)?;
        waiting.sql.push_str(&numbered(&sql, before));
        waiting.sql.push_str("; ");
        waiting.later.push(later);
        Ok(())
    }
}

impl Waiting {
    /// Has a transaction begin with its first statement. Nobody else can write meanwhile: the caller has the
    /// one connection that does.
    pub(crate) fn begin(unfinished: &Unfinished) -> Self {
        Self {
            sql: format!("{BEGIN}; "),
            later: vec![Later::Write(|done| done.map(drop))],
            begins: Some(unfinished.clone()),
            ..Self::default()
        }
    }

    /// Whether the database knows of the transaction.
    pub(crate) fn has_begun(&self) -> bool {
        self.begins.is_none()
    }

    /// Refuses a statement that could not be built.
    fn accept(&mut self, fault: Option<BoxDynError>) -> Result<()> {
        let Some(error) = fault else { return Ok(()) };
        self.failed = true;
        Err(sqlx::Error::Encode(error).into())
    }

    /// Sends everything that waits, and the last statement, whose answer it returns.
    async fn send(
        &mut self,
        connection: &mut SqliteConnection,
        last: Option<Cow<'static, str>>,
    ) -> Result<Answer> {
        if self.failed {
            return Err(failed_before());
        }
        let Self { sql, arguments, later, begins, had_errors, .. } = take(self);
        // Until it is answered.
        self.had_errors = true;
        if let Some(unfinished) = begins {
            // From here on a dropped request's transaction is rolled back.
            unfinished.set(true);
        }
        // Until all are answered: this future may be dropped before.
        self.failed = !later.is_empty();
        let (subject, text) = match last {
            Some(last) if later.is_empty() => (last.clone(), last),
            Some(last) => (last.clone(), Cow::Owned(sql + &last)),
            None => (Cow::Borrowed(""), Cow::Owned(sql)),
        };
        let mut waited = later.into_iter();
        let done = traced(&subject, run(connection, text, arguments, &mut waited)).await;
        match done {
            Ok((answer, failed)) => {
                self.had_errors = had_errors;
                self.failed = failed.is_some();
                failed.map_or(Ok(answer), Err)
            }
            Err(error) => {
                let error = StoreError::from(error);
                let culprit = waited.next();
                self.failed = culprit.is_some();
                Err(match culprit {
                    Some(later) => later.explain(error),
                    None => error,
                })
            }
        }
    }
}

fn failed_before() -> StoreError {
    let why = "an earlier statement of the transaction has failed";
    sqlx::Error::Protocol(why.to_owned()).into()
}

/// Sends one text of several statements. Returns the answer to the last one, or what the first one that
/// waited refused; those behind that one have not been run.
async fn run(
    connection: &mut SqliteConnection,
    text: Cow<'static, str>,
    arguments: SqliteArguments,
    waited: &mut std::vec::IntoIter<Later>,
) -> sqlx::Result<(Answer, Option<StoreError>)> {
    let query = match text {
        Cow::Borrowed(text) => sqlx::query_with(text, arguments),
        Cow::Owned(text) => sqlx::query_with(AssertSqlSafe(text), arguments),
    };
    let query = query.persistent(waited.len() <= PREPARED);
    let mut steps = connection.fetch_many(query);
    let mut answer = Answer::default();
    while let Some(step) = steps.try_next().await? {
        match step {
            Either::Right(row) => answer.rows.push(row),
            Either::Left(done) => {
                answer.rows_affected = done.rows_affected();
                let Some(later) = waited.next() else { continue };
                if let Err(refused) = later.accept(&take(&mut answer)) {
                    return Ok((answer, Some(refused)));
                }
            }
        }
    }
    Ok((answer, None))
}

/// The statement behind others that have so many parameters.
fn numbered(sql: &str, before: usize) -> String {
    let mut out = String::with_capacity(sql.len() + 16);
    let mut quoted = false;
    let mut rest = sql.chars().peekable();
    while let Some(char) = rest.next() {
        out.push(char);
        quoted ^= char == '\'';
        if quoted || char != '$' {
            continue;
        }
        let mut number = 0;
        while let Some(digit) = rest.next_if(char::is_ascii_digit).and_then(|it| it.to_digit(10)) {
            number = number * 10 + digit as usize;
        }
        out.push_str(&(before + number).to_string());
    }
    out
}

/// An answer that comes with a later statement of the transaction, at the latest when [`crate::Tx::now`] asks for
/// it.
pub struct Soon<T>(Arc<Mutex<Option<Result<T>>>>);

impl<T> Soon<T> {
    /// An answer that is there.
    pub(crate) fn ready(answer: T) -> Self {
        Self(Arc::new(Mutex::new(Some(Ok(answer)))))
    }

    pub(crate) fn take(&self) -> Option<Result<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::numbered;

    #[test]
    fn parameters_are_numbered_behind_those_of_earlier_statements() {
        let sql = "SELECT '$1', json_extract(a, '$.id') FROM t WHERE b = $2 AND c IN ($1, $10)";
        assert_eq!(
            numbered(sql, 5),
            "SELECT '$1', json_extract(a, '$.id') FROM t WHERE b = $7 AND c IN ($6, $15)"
        );
    }
}
