//! Table `gateways`; listeners inside, as JSON.

use imp_core::gateway::{Gateway, GatewayClass, GatewaySpec, Listener};
use imp_core::scope::TenantScope;
use imp_core::{Check as _, GatewayId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored, Word};
use crate::table::{MetaRow, Table, explained, matched, object, tenant_only};
use crate::{Result, Tx};

/// Which gateways to list.
#[derive(Clone, Debug, Default)]
pub struct GatewayFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Of this class.
    pub gateway_class: Option<GatewayClass>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    name: String,
    description: String,
    gateway_class: Word<GatewayClass>,
    listeners: Stored<Vec<Listener>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Gateway {
    fn from(row: Row) -> Self {
        let mut spec = GatewaySpec {
            name: row.name,
            description: row.description,
            gateway_class: row.gateway_class.0,
            listeners: row.listeners.0,
        };
        // Former releases stored hostnames as they were written.
        spec.canonicalise();
        Self { id: row.id.into(), tenant_id: row.tenant_id.into(), spec, meta: row.meta.into() }
    }
}

object!(Gateway, GatewayId, GatewayFilter, "gateways");

impl Table for Gateway {
    type Row = Row;

    const COLUMNS: &'static str = "id, tenant_id, name, description, gateway_class, listeners, \
        version, created_at, updated_at";

    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
    }

    fn filter<'a>(filter: &'a GatewayFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.word("gateway_class =", filter.gateway_class);
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, gateway: &Gateway) -> Result<()> {
    let sql = "INSERT INTO gateways (id, tenant_id, name, description, gateway_class, listeners, \
        version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    save(tx, sql, gateway, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`.
pub async fn update(tx: &mut Tx, gateway: &Gateway, expected_version: i64) -> Result<()> {
    let sql = "UPDATE gateways SET name = $3, description = $4, gateway_class = $5, \
        listeners = $6, version = $7, updated_at = $9 \
        WHERE id = $1 AND tenant_id = $2 AND version = $10";
    let rows = save(tx, sql, gateway, expected_version).await?;
    matched::<Gateway>(tx, rows, gateway.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, gateway: &Gateway, expected: i64) -> Result<u64> {
    let Gateway { id, tenant_id, spec, meta } = gateway;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        &spec.name,
        &spec.description,
        spec.gateway_class.as_str(),
        Json(&spec.listeners),
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    );
    explained(tx, done, None, &[("tenant_id", "tenants", Some(tenant_id.0))]).await
}
