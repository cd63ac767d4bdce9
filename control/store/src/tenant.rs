//! Table `tenants`.

use imp_core::TenantId;
use imp_core::scope::TenantScope;
use imp_core::tenant::{Tenant, TenantSpec};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::{MetaRow, Table, matched, object};
use crate::{Result, Tx};

/// Which tenants to list.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter {
    /// Exactly this slug.
    pub slug: Option<String>,
    /// Exactly this name.
    pub name: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    name: String,
    slug: String,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Tenant {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            spec: TenantSpec { name: row.name, slug: row.slug },
            meta: row.meta.into(),
        }
    }
}

object!(Tenant, TenantId, TenantFilter, "tenants");

impl Table for Tenant {
    type Row = Row;

    const COLUMNS: &'static str = "id, name, slug, version, created_at, updated_at";

    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        conditions.id("id =", scope.tenant());
    }

    fn filter<'a>(filter: &'a TenantFilter, conditions: &mut Conditions<'a>) {
        conditions.text("slug =", filter.slug.as_deref());
        conditions.text("name =", filter.name.as_deref());
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, tenant: &Tenant) -> Result<()> {
    let sql = "INSERT INTO tenants (id, name, slug, version, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    save(tx, sql, tenant, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. The slug stays.
pub async fn update(tx: &mut Tx, tenant: &Tenant, expected_version: i64) -> Result<()> {
    let sql = "UPDATE tenants SET name = $2, version = $4, updated_at = $6 \
        WHERE id = $1 AND version = $7";
    let rows = save(tx, sql, tenant, expected_version).await?;
    matched::<Tenant>(tx, rows, tenant.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, tenant: &Tenant, expected: i64) -> Result<u64> {
    let Tenant { id, spec, meta } = tenant;
    execute!(
        tx.conn(),
        sql,
        id.0,
        &spec.name,
        &spec.slug,
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    )
}
