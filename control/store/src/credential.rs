//! Table `credentials`. The key's hash stands beside the entity, never in it.

use chrono::{DateTime, Utc};
use imp_core::credential::{Credential, CredentialSpec, CredentialStatus, CredentialType};
use imp_core::scope::TenantScope;
use imp_core::secret::SecretHash;
use imp_core::{ConsumerId, CredentialId, CustomerId};
use uuid::Uuid;

use crate::sql::{Conditions, Word};
use crate::table::columns::Columns;
use crate::table::{MetaRow, Table, explained, matched, micros, object, tenant_and_customer};
use crate::{Result, Store, StoreError, Tx};

/// Which credentials to list.
#[derive(Clone, Debug, Default)]
pub struct CredentialFilter {
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
    /// Of this consumer.
    pub consumer_id: Option<ConsumerId>,
    /// In this state.
    pub status: Option<CredentialStatus>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    customer_id: Uuid,
    consumer_id: Uuid,
    kind: Word<CredentialType>,
    prefix: String,
    last4: String,
    status: Word<CredentialStatus>,
    expires_at: Option<DateTime<Utc>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Credential {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            customer_id: row.customer_id.into(),
            spec: CredentialSpec {
                consumer_id: row.consumer_id.into(),
                kind: row.kind.0,
                expires_at: row.expires_at,
            },
            prefix: row.prefix,
            last4: row.last4,
            status: row.status.0,
            meta: row.meta.into(),
        }
    }
}

object!(Credential, CredentialId, CredentialFilter, "credentials");

impl Columns for Credential {
    type Row = Row;

    const COLUMNS: &'static str = "id, tenant_id, customer_id, consumer_id, kind, prefix, last4, \
        status, expires_at, version, created_at, updated_at";
}

impl Table for Credential {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a CredentialFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.id("consumer_id =", filter.consumer_id);
        conditions.word("status =", filter.status);
    }
}

/// The hash of the credential's secret.
pub async fn hash_of(store: &Store, id: CredentialId) -> Result<Option<SecretHash>> {
    let sql = "SELECT secret_hash FROM credentials WHERE id = $1";
    let rows = fetch!(store.read().await?.conn(), "credentials", (Vec<u8>,), sql, id.0)?;
    rows.into_iter().next().map(|(bytes,)| secret_hash(id.0, &bytes)).transpose()
}

/// The 32 bytes of a stored hash.
pub(crate) fn secret_hash(id: Uuid, bytes: &[u8]) -> Result<SecretHash> {
    let corrupt = |_| StoreError::Corrupt {
        table: "credentials",
        id: Some(id),
        why: format!("secret_hash has {} bytes instead of 32", bytes.len()),
    };
    bytes.try_into().map(SecretHash).map_err(corrupt)
}

/// Adds it.
pub async fn insert(tx: &mut Tx, credential: &Credential, hash: &SecretHash) -> Result<()> {
    let sql = "INSERT INTO credentials (id, tenant_id, customer_id, consumer_id, kind, prefix, \
        last4, status, expires_at, version, created_at, updated_at, secret_hash) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    save(tx, sql, credential, Some(hash), 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Its secret and its consumer stay.
pub async fn update(tx: &mut Tx, credential: &Credential, expected_version: i64) -> Result<()> {
    let sql = "UPDATE credentials SET status = $8, expires_at = $9, version = $10, \
        updated_at = $12 WHERE id = $1 AND tenant_id = $2 AND version = $14";
    let rows = save(tx, sql, credential, None, expected_version).await?;
    matched::<Credential>(tx, rows, credential.id.into()).await
}

async fn save(
    tx: &mut Tx,
    sql: &'static str,
    credential: &Credential,
    hash: Option<&SecretHash>,
    expected: i64,
) -> Result<u64> {
    let Credential { id, tenant_id, customer_id, spec, prefix, last4, status, meta } = credential;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        customer_id.0,
        spec.consumer_id.0,
        Word(spec.kind),
        prefix,
        last4,
        status.as_str(),
        spec.expires_at.map(micros),
        meta.version,
        meta.created_at,
        meta.updated_at,
        hash.map(|hash| hash.0.as_slice()),
        expected,
    );
    let references = [
        ("consumer_id", "consumers", Some(spec.consumer_id.0)),
        ("customer_id", "customers", Some(customer_id.0)),
    ];
    explained(tx, done, Some(tenant_id.0), &references).await
}
