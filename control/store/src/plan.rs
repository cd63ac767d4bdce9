//! Tables `plans` and `plan_versions`: the current plan, and the frozen terms of each version for
//! its subscriptions.

use imp_core::plan::{Limit, Plan, PlanSpec, Quota};
use imp_core::policy::RateLimit;
use imp_core::product::CatalogStatus;
use imp_core::scope::TenantScope;
use imp_core::{PlanId, ProductId, stored};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Stored, Word};
use crate::table::columns::columns;
use crate::table::{Reference, Table, object, tenant_only};
use crate::{Result, Soon, Store, StoreError, Tx};

#[derive(Clone, Debug, Default)]
pub struct PlanFilter {
    pub product_id: Option<ProductId>,
    pub name: Option<String>,
    pub status: Option<CatalogStatus>,
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
                // The API writes no value out of range.
                subscriptions_per_customer: u32::try_from(row.subscriptions_per_customer)
                    .unwrap_or(1),
            },
            meta: row.meta.into(),
        }
    }
}

object!(Plan, PlanId, PlanFilter, "plans");

columns! {
    Plan as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        product_id: Uuid = it.product_id.0,
    }
    changing {
        status: Word<CatalogStatus> = it.status.as_str(),
        plan_version: i64 = it.plan_version,
        name: String = &it.spec.name,
        description: String = &it.spec.description,
        rate_limit: Option<Stored<RateLimit>> = it.spec.rate_limit.map(Json),
        quota: Option<Stored<Quota>> = it.spec.quota.as_ref().map(Json),
        limits: Stored<Vec<Limit>> = Json(&it.spec.limits),
        auto_approve: bool = it.spec.auto_approve,
        subscriptions_per_customer: i64 = i64::from(it.spec.subscriptions_per_customer),
    }
}

impl Table for Plan {
    /// A customer sees the plans of the products that it sees, except drafts.
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

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (Some(self.tenant_id.0), vec![("product_id", "products", Some(self.product_id.0))])
    }
}

/// Inserts the frozen terms of a version; they never change.
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

/// Like [`version`], within a transaction.
pub async fn version_in(tx: &mut Tx, id: PlanId, plan_version: i64) -> Result<Option<PlanSpec>> {
    terms(tx.conn(), id, plan_version).await
}

async fn terms(conn: Conn<'_>, id: PlanId, plan_version: i64) -> Result<Option<PlanSpec>> {
    let sql = "SELECT terms FROM plan_versions WHERE plan_id = $1 AND plan_version = $2";
    let rows = fetch!(conn, "plan_versions", (Stored<PlanSpec>,), sql, id.0, plan_version)?;
    Ok(rows.into_iter().next().map(|(terms,)| terms.0))
}

/// The terms of the product's plans, now and of living subscriptions, that need a feature of agents. For an
/// answer that is needed later.
pub async fn demanding_soon(tx: &mut Tx, product: ProductId) -> Result<Soon<Vec<PlanSpec>>> {
    // Most plans need none, and are not read for it.
    let sql = "SELECT CAST(v.terms AS TEXT) FROM plans p JOIN plan_versions v ON v.plan_id = p.id \
        WHERE p.product_id = $1 AND p.status <> 'closed' \
        AND (CAST(v.terms AS TEXT) LIKE '%\"time_zone\"%' \
            OR CAST(v.terms AS TEXT) LIKE '%\"anchor\"%' \
            OR CAST(v.terms AS TEXT) LIKE '%\"year\"%') \
        AND (v.plan_version = p.plan_version OR EXISTS (SELECT 1 FROM subscriptions s \
            WHERE s.plan_id = v.plan_id AND s.plan_version = v.plan_version \
            AND s.status NOT IN ('rejected', 'cancelled', 'expired'))) \
        ORDER BY p.name, v.plan_version DESC";
    let demanding = |rows: Vec<(String,)>| {
        // Terms that this release cannot read are not sent to agents either.
        let terms = rows.iter().filter_map(|(json,)| stored::read::<PlanSpec>(json).ok());
        Ok(terms.filter(|terms| !terms.features().is_empty()).collect())
    };
    soon!(tx.conn(), "plan_versions", (String,), demanding, sql, product.0)
}
