//! Table `api_tokens`. The secret's hash stands beside the entity, never in it.

use chrono::{DateTime, Utc};
use imp_core::api_token::{ApiToken, ApiTokenSpec};
use imp_core::role::Role;
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use imp_core::{ApiTokenId, CustomerId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Stored};
use crate::table::columns::Columns;
use crate::table::{MetaRow, Table, explained, matched, micros, object, tenant_and_customer};
use crate::{Result, Store, Tx};

/// Which tokens to list.
#[derive(Clone, Debug, Default)]
pub struct ApiTokenFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Option<Uuid>,
    customer_id: Option<Uuid>,
    name: String,
    roles: Stored<Vec<Role>>,
    prefix: String,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.map(Into::into),
            spec: ApiTokenSpec {
                name: row.name,
                roles: row.roles.0,
                customer_id: row.customer_id.map(Into::into),
                expires_at: row.expires_at,
            },
            prefix: row.prefix,
            revoked_at: row.revoked_at,
            meta: row.meta.into(),
        }
    }
}

macro_rules! columns {
    () => {
        "id, tenant_id, customer_id, name, roles, prefix, expires_at, revoked_at, version, \
         created_at, updated_at"
    };
}

object!(ApiToken, ApiTokenId, ApiTokenFilter, "api_tokens");

impl Columns for ApiToken {
    type Row = Row;

    const COLUMNS: &'static str = columns!();
}

impl Table for ApiToken {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a ApiTokenFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.id("customer_id =", filter.customer_id);
    }
}

/// The token whose secret has this hash, expired and revoked ones included.
pub async fn by_hash(store: &Store, hash: &SecretHash) -> Result<Option<ApiToken>> {
    let sql = concat!("SELECT ", columns!(), " FROM api_tokens WHERE secret_hash = $1");
    let rows = fetch!(store.read().await?.conn(), "api_tokens", Row, sql, hash.0.as_slice())?;
    Ok(rows.into_iter().next().map(Into::into))
}

/// Adds it.
pub async fn insert(tx: &mut Tx, token: &ApiToken, hash: &SecretHash) -> Result<()> {
    let sql = "INSERT INTO api_tokens (id, tenant_id, customer_id, name, roles, prefix, \
        expires_at, revoked_at, version, created_at, updated_at, secret_hash) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    save(tx, sql, token, Some(hash), 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Its secret and whom it speaks for stay.
pub async fn update(tx: &mut Tx, token: &ApiToken, expected_version: i64) -> Result<()> {
    let sql = "UPDATE api_tokens SET name = $4, roles = $5, expires_at = $7, revoked_at = $8, \
        version = $9, updated_at = $11 WHERE id = $1 AND version = $13";
    let rows = save(tx, sql, token, None, expected_version).await?;
    matched::<ApiToken>(tx, rows, token.id.into()).await
}

async fn save(
    tx: &mut Tx,
    sql: &'static str,
    token: &ApiToken,
    hash: Option<&SecretHash>,
    expected: i64,
) -> Result<u64> {
    let ApiToken { id, tenant_id, spec, prefix, revoked_at, meta } = token;
    let (tenant, customer) = (tenant_id.map(Uuid::from), spec.customer_id.map(Uuid::from));
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant,
        customer,
        &spec.name,
        Json(&spec.roles),
        prefix,
        spec.expires_at.map(micros),
        revoked_at.map(micros),
        meta.version,
        meta.created_at,
        meta.updated_at,
        hash.map(|hash| hash.0.as_slice()),
        expected,
    );
    let references = [("tenant_id", "tenants", tenant), ("customer_id", "customers", customer)];
    explained(tx, done, tenant, &references).await
}

/// Until the transaction ends no other one writes this table.
pub async fn lock_out_others(tx: &mut Tx) -> Result<()> {
    if let Conn::Pg(_) = tx.conn() {
        // SQLite has one writer anyway.
        execute!(tx.conn(), "LOCK TABLE api_tokens IN SHARE ROW EXCLUSIVE MODE")?;
    }
    Ok(())
}
