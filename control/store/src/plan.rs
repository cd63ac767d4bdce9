//! Tables `plans` and `plan_versions`: a plan as it is now, and the frozen terms of each version
//! that someone may have bought.

use imp_core::plan::{Limit, Plan, PlanSpec, Quota};
use imp_core::policy::RateLimit;
use imp_core::product::CatalogStatus;
use imp_core::scope::TenantScope;
use imp_core::{PlanId, ProductId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Stored, Word};
use crate::table::{MetaRow, Table, explained, matched, object, tenant_only};
use crate::{Result, Store, StoreError, Tx};

/// Which plans to list.
#[derive(Clone, Debug, Default)]
pub struct PlanFilter {
    /// Of this product.
    pub product_id: Option<ProductId>,
    /// Exactly this name.
    pub name: Option<String>,
    /// In this state.
    pub status: Option<CatalogStatus>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    product_id: Uuid,
    status: Word<CatalogStatus>,
    plan_version: i64,
    name: String,
    description: String,
    rate_limit: Option<Stored<RateLimit>>,
    quota: Option<Stored<Quota>>,
    limits: Stored<Vec<Limit>>,
    auto_approve: bool,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Plan {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            product_id: row.product_id.into(),
            status: row.status.0,
            plan_version: row.plan_version,
            spec: PlanSpec {
                name: row.name,
                description: row.description,
                rate_limit: row.rate_limit.map(|json| json.0),
                quota: row.quota.map(|json| json.0),
                limits: row.limits.0,
                auto_approve: row.auto_approve,
            },
            meta: row.meta.into(),
        }
    }
}

object!(Plan, PlanId, PlanFilter, "plans");

impl Table for Plan {
    type Row = Row;

    const COLUMNS: &'static str = "id, tenant_id, product_id, status, plan_version, name, \
        description, rate_limit, quota, limits, auto_approve, version, created_at, updated_at";

    /// A customer sees the plans of the products that it sees, but for drafts.
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
        conditions.id_in(
            "status <> 'draft' AND product_id IN (SELECT id FROM products \
             WHERE visibility = 'public' AND status <> 'draft' \
             UNION ALL SELECT product_id FROM subscriptions WHERE customer_id =",
            scope.customer(),
            ")",
        );
    }

    fn filter<'a>(filter: &'a PlanFilter, conditions: &mut Conditions<'a>) {
        conditions.id("product_id =", filter.product_id);
        conditions.text("name =", filter.name.as_deref());
        conditions.word("status =", filter.status);
    }
}

/// Adds it. Its terms are frozen by [`insert_version`].
pub async fn insert(tx: &mut Tx, plan: &Plan) -> Result<()> {
    let sql = "INSERT INTO plans (id, tenant_id, product_id, status, plan_version, name, \
        description, rate_limit, quota, limits, auto_approve, version, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    save(tx, sql, plan, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Its product stays.
pub async fn update(tx: &mut Tx, plan: &Plan, expected_version: i64) -> Result<()> {
    let sql = "UPDATE plans SET status = $4, plan_version = $5, name = $6, description = $7, \
        rate_limit = $8, quota = $9, limits = $10, auto_approve = $11, version = $12, \
        updated_at = $14 WHERE id = $1 AND tenant_id = $2 AND version = $15";
    let rows = save(tx, sql, plan, expected_version).await?;
    matched::<Plan>(tx, rows, plan.id.into()).await
}

/// Freezes the terms of a version. A version is written once.
pub async fn insert_version(
    tx: &mut Tx,
    id: PlanId,
    plan_version: i64,
    terms: &PlanSpec,
) -> Result<()> {
    let sql = "INSERT INTO plan_versions (plan_id, plan_version, tenant_id, terms) \
        SELECT id, $2, tenant_id, $3 FROM plans WHERE id = $1";
    match execute!(tx.conn(), sql, id.0, plan_version, Json(terms))? {
        0 => Err(StoreError::MissingReference { field: "plan_id" }),
        _ => Ok(()),
    }
}

/// The frozen terms of a version.
pub async fn version(store: &Store, id: PlanId, plan_version: i64) -> Result<Option<PlanSpec>> {
    terms(store.read().await?.conn(), id, plan_version).await
}

/// As [`version`], as the transaction sees it.
pub async fn version_in(tx: &mut Tx, id: PlanId, plan_version: i64) -> Result<Option<PlanSpec>> {
    terms(tx.conn(), id, plan_version).await
}

async fn terms(conn: Conn<'_>, id: PlanId, plan_version: i64) -> Result<Option<PlanSpec>> {
    let sql = "SELECT terms FROM plan_versions WHERE plan_id = $1 AND plan_version = $2";
    let rows = fetch!(conn, "plan_versions", (Stored<PlanSpec>,), sql, id.0, plan_version)?;
    Ok(rows.into_iter().next().map(|(terms,)| terms.0))
}

async fn save(tx: &mut Tx, sql: &'static str, plan: &Plan, expected: i64) -> Result<u64> {
    let Plan { id, tenant_id, product_id, status, plan_version, spec, meta } = plan;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        product_id.0,
        status.as_str(),
        *plan_version,
        &spec.name,
        &spec.description,
        spec.rate_limit.map(Json),
        spec.quota.map(Json),
        Json(&spec.limits),
        spec.auto_approve,
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    );
    let references = [("product_id", "products", Some(product_id.0))];
    explained(tx, done, Some(tenant_id.0), &references).await
}
