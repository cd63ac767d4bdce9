//! Table `client_apps`.

use imp_core::client_app::{ClientApp, ClientAppSpec};
use imp_core::scope::TenantScope;
use imp_core::{ClientAppId, CustomerId};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::{MetaRow, Table, explained, matched, object, tenant_and_customer};
use crate::{Result, Tx};

/// Which apps to list.
#[derive(Clone, Debug, Default)]
pub struct ClientAppFilter {
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
    /// Exactly this name.
    pub name: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    customer_id: Uuid,
    name: String,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for ClientApp {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            spec: ClientAppSpec { customer_id: row.customer_id.into(), name: row.name },
            meta: row.meta.into(),
        }
    }
}

object!(ClientApp, ClientAppId, ClientAppFilter, "client_apps");

impl Table for ClientApp {
    type Row = Row;

    const COLUMNS: &'static str =
        "id, tenant_id, customer_id, name, version, created_at, updated_at";

    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a ClientAppFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.text("name =", filter.name.as_deref());
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, app: &ClientApp) -> Result<()> {
    let sql = "INSERT INTO client_apps (id, tenant_id, customer_id, name, version, created_at, \
        updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";
    save(tx, sql, app, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Its customer stays.
pub async fn update(tx: &mut Tx, app: &ClientApp, expected_version: i64) -> Result<()> {
    let sql = "UPDATE client_apps SET name = $4, version = $5, updated_at = $7 \
        WHERE id = $1 AND tenant_id = $2 AND version = $8";
    let rows = save(tx, sql, app, expected_version).await?;
    matched::<ClientApp>(tx, rows, app.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, app: &ClientApp, expected: i64) -> Result<u64> {
    let ClientApp { id, tenant_id, spec, meta } = app;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        spec.customer_id.0,
        &spec.name,
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    );
    let references = [("customer_id", "customers", Some(spec.customer_id.0))];
    explained(tx, done, Some(tenant_id.0), &references).await
}
