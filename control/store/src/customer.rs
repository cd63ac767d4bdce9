//! Table `customers`.

use imp_core::CustomerId;
use imp_core::customer::{Customer, CustomerSpec};
use imp_core::scope::TenantScope;
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::{MetaRow, Table, explained, matched, object, tenant_only};
use crate::{Result, Tx};

/// Which customers to list.
#[derive(Clone, Debug, Default)]
pub struct CustomerFilter {
    /// Exactly this name.
    pub name: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    name: String,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Customer {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            spec: CustomerSpec { name: row.name },
            meta: row.meta.into(),
        }
    }
}

object!(Customer, CustomerId, CustomerFilter, "customers");

impl Table for Customer {
    type Row = Row;

    const COLUMNS: &'static str = "id, tenant_id, name, version, created_at, updated_at";

    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
        conditions.id("id =", scope.customer());
    }

    fn filter<'a>(filter: &'a CustomerFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, customer: &Customer) -> Result<()> {
    let sql = "INSERT INTO customers (id, tenant_id, name, version, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    save(tx, sql, customer, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`.
pub async fn update(tx: &mut Tx, customer: &Customer, expected_version: i64) -> Result<()> {
    let sql = "UPDATE customers SET name = $3, version = $4, updated_at = $6 \
        WHERE id = $1 AND tenant_id = $2 AND version = $7";
    let rows = save(tx, sql, customer, expected_version).await?;
    matched::<Customer>(tx, rows, customer.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, customer: &Customer, expected: i64) -> Result<u64> {
    let Customer { id, tenant_id, spec, meta } = customer;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        &spec.name,
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    );
    let references = [("tenant_id", "tenants", Some(tenant_id.0))];
    explained(tx, done, None, &references).await
}
