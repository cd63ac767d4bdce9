//! Table `registration_tokens`: each lets one agent in, once. Only operators see them.

use chrono::{DateTime, Utc};
use imp_core::cluster::{RegistrationToken, RegistrationTokenSpec};
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use imp_core::{ClusterId, RegistrationTokenId};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::columns::Columns;
use crate::table::{MetaRow, Table, explained, matched, micros, object};
use crate::{Result, Tx};

/// Which tokens to list.
#[derive(Clone, Debug, Default)]
pub struct RegistrationTokenFilter {
    /// Of this cluster.
    pub cluster_id: Option<ClusterId>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    cluster_id: Uuid,
    description: String,
    prefix: String,
    expires_at: DateTime<Utc>,
    used_at: Option<DateTime<Utc>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for RegistrationToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            cluster_id: row.cluster_id.into(),
            spec: RegistrationTokenSpec { description: row.description },
            prefix: row.prefix,
            expires_at: row.expires_at,
            used_at: row.used_at,
            meta: row.meta.into(),
        }
    }
}

macro_rules! columns {
    () => {
        "id, cluster_id, description, prefix, expires_at, used_at, version, created_at, updated_at"
    };
}

object!(RegistrationToken, RegistrationTokenId, RegistrationTokenFilter, "registration_tokens");

impl Columns for RegistrationToken {
    type Row = Row;

    const COLUMNS: &'static str = columns!();
}

impl Table for RegistrationToken {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        if scope.tenant().is_some() {
            conditions.number("0 =", 1);
        }
    }

    fn filter<'a>(filter: &'a RegistrationTokenFilter, conditions: &mut Conditions<'a>) {
        conditions.id("cluster_id =", filter.cluster_id);
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, token: &RegistrationToken, hash: &SecretHash) -> Result<()> {
    let sql = "INSERT INTO registration_tokens (id, cluster_id, description, prefix, expires_at, \
        used_at, version, created_at, updated_at, secret_hash) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    save(tx, sql, token, Some(hash), 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Its secret and its cluster stay.
pub async fn update(tx: &mut Tx, token: &RegistrationToken, expected_version: i64) -> Result<()> {
    let sql = "UPDATE registration_tokens SET description = $3, expires_at = $5, used_at = $6, \
        version = $7, updated_at = $9 WHERE id = $1 AND version = $11";
    let rows = save(tx, sql, token, None, expected_version).await?;
    matched::<RegistrationToken>(tx, rows, token.id.into()).await
}

/// Uses the token whose secret has this hash: None when there is none, when it was used before or
/// is too old. Of any number of takers at the same time one gets it.
pub async fn take(
    tx: &mut Tx,
    hash: &SecretHash,
    now: DateTime<Utc>,
) -> Result<Option<RegistrationToken>> {
    let sql = concat!(
        "UPDATE registration_tokens SET used_at = $2, updated_at = $2, version = version + 1 \
         WHERE secret_hash = $1 AND used_at IS NULL AND expires_at > $2 RETURNING ",
        columns!()
    );
    let (hash, now) = (hash.0.as_slice(), micros(now));
    let rows = fetch!(tx.conn(), "registration_tokens", Row, sql, hash, now)?;
    Ok(rows.into_iter().next().map(Into::into))
}

/// Removes those that expired before, used or not; how many.
pub async fn prune(tx: &mut Tx, expired_before: DateTime<Utc>) -> Result<u64> {
    let sql = "DELETE FROM registration_tokens WHERE expires_at < $1";
    execute!(tx.conn(), sql, micros(expired_before))
}

async fn save(
    tx: &mut Tx,
    sql: &'static str,
    token: &RegistrationToken,
    hash: Option<&SecretHash>,
    expected: i64,
) -> Result<u64> {
    let RegistrationToken { id, cluster_id, spec, prefix, expires_at, used_at, meta } = token;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        cluster_id.0,
        &spec.description,
        prefix,
        micros(*expires_at),
        used_at.map(micros),
        meta.version,
        meta.created_at,
        meta.updated_at,
        hash.map(|hash| hash.0.as_slice()),
        expected,
    );
    explained(tx, done, None, &[("cluster_id", "clusters", Some(cluster_id.0))]).await
}
