//! Table `api_services`; routes, backends and policies inside, as JSON.

use chrono::{DateTime, Utc};
use imp_core::api_service::{ApiService, ApiServiceSpec, ApiServiceStatus};
use imp_core::policy::Policy;
use imp_core::route::{Backend, Route};
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, ProductId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Stored, Word};
use crate::table::columns::columns;
use crate::table::{Reference, Table, micros, object, tenant_only};
use crate::{Result, Soon, Tx};

#[derive(Clone, Debug, Default)]
pub struct ApiServiceFilter {
    pub name: Option<String>,
    pub api_version: Option<String>,
    pub status: Option<ApiServiceStatus>,
}

impl From<Row> for ApiService {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            status: row.status.0,
            revision: row.revision,
            spec: ApiServiceSpec {
                name: row.name,
                api_version: row.api_version,
                description: row.description,
                routes: row.routes.0,
                backends: row.backends.0,
                policies: row.policies.0,
            },
            meta: row.meta.into(),
        }
    }
}

object!(ApiService, ApiServiceId, ApiServiceFilter, "api_services");

columns! {
    ApiService as it;
    fixed { id: Uuid = it.id.0, tenant_id: Uuid = it.tenant_id.0, }
    changing {
        status: Word<ApiServiceStatus> = it.status.as_str(),
        revision: i64 = it.revision,
        name: String = &it.spec.name,
        api_version: String = &it.spec.api_version,
        description: String = &it.spec.description,
        routes: Stored<Vec<Route>> = Json(&it.spec.routes),
        backends: Stored<Vec<Backend>> = Json(&it.spec.backends),
        policies: Stored<Vec<Policy>> = Json(&it.spec.policies),
    }
}

impl Table for ApiService {
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
    }

    fn filter<'a>(filter: &'a ApiServiceFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.text("api_version =", filter.api_version.as_deref());
        conditions.word("status =", filter.status);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, vec![("tenant_id", "tenants", Some(self.tenant_id.0))])
    }
}

/// The services of a product, in no order, for an answer that is needed later.
pub async fn of_product_soon(tx: &mut Tx, product: ProductId) -> Result<Soon<Vec<ApiService>>> {
    let sql = concat!(
        "SELECT ",
        selected!(),
        " FROM api_services WHERE id IN \
         (SELECT api_service_id FROM product_api_services WHERE product_id = $1)"
    );
    let read = |rows: Vec<Row>| Ok(rows.into_iter().map(ApiService::from).collect());
    soon!(tx.conn(), "api_services", Row, read, sql, product.0)
}

/// Moves a draft to `published` and locks its row. Returns false, and changes nothing, in any other
/// state.
pub async fn leave_draft(tx: &mut Tx, id: ApiServiceId, now: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE api_services SET status = $2, version = version + 1, updated_at = $3 \
        WHERE id = $1 AND status = $4";
    let (draft, published) = (ApiServiceStatus::Draft, ApiServiceStatus::Published);
    let rows = execute!(tx.conn(), sql, id.0, published.as_str(), micros(now), draft.as_str())?;
    Ok(rows > 0)
}

/// Whether a publish serves it, or would at its next revision: in its desired revision, in its own
/// list, or through the product.
pub async fn is_published(tx: &mut Tx, id: ApiServiceId) -> Result<bool> {
    let sql = "SELECT p.id FROM product_publishes p \
        JOIN product_publish_api_services s ON s.product_publish_id = p.id \
        WHERE s.api_service_id = $1 \
        UNION ALL \
        SELECT p.id FROM product_publishes p \
        JOIN product_api_services s ON s.product_id = p.product_id \
        WHERE s.api_service_id = $1 AND NOT EXISTS \
            (SELECT 1 FROM product_publish_api_services o WHERE o.product_publish_id = p.id) \
        LIMIT 1";
    let rows = fetch!(tx.conn(), "product_publishes", (Uuid,), sql, id.0)?;
    Ok(!rows.is_empty() || is_frozen(tx, id).await?)
}

/// Whether the desired revision of one of its tenant's publishes contains it.
async fn is_frozen(tx: &mut Tx, id: ApiServiceId) -> Result<bool> {
    macro_rules! select {
        ($holds:literal) => {
            concat!(
                "SELECT p.id FROM product_publishes p JOIN product_publish_revisions r \
                 ON r.product_publish_id = p.id AND r.revision = p.desired_revision \
                 WHERE p.tenant_id = (SELECT tenant_id FROM api_services WHERE id = $1) AND ",
                $holds,
                " LIMIT 1"
            )
        };
    }
    let sql = match tx.conn() {
        Conn::Sqlite(_) => select!(
            "EXISTS (SELECT 1 FROM json_each(r.api_services) j \
             WHERE json_extract(j.value, '$.id') = $2)"
        ),
        Conn::Pg(_) => select!(
            "r.api_services @> jsonb_build_array(jsonb_build_object('id', CAST($2 AS TEXT)))"
        ),
    };
    let rows = fetch!(tx.conn(), "product_publishes", (Uuid,), sql, id.0, id.to_string())?;
    Ok(!rows.is_empty())
}

/// How a row is locked until the transaction ends. On SQLite a write transaction excludes all
/// others anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Nobody else can change it.
    Shared,
    /// Nobody else can lock it either: concurrent publishes come before or after.
    Alone,
}

/// Locks the row. Returns its status, or `None` if it is gone.
pub async fn hold(tx: &mut Tx, id: ApiServiceId, how: Hold) -> Result<Option<ApiServiceStatus>> {
    let sql = match (tx.conn(), how) {
        (Conn::Sqlite(_), _) => "SELECT status FROM api_services WHERE id = $1",
        (Conn::Pg(_), Hold::Shared) => "SELECT status FROM api_services WHERE id = $1 FOR SHARE",
        (Conn::Pg(_), Hold::Alone) => "SELECT status FROM api_services WHERE id = $1 FOR UPDATE",
    };
    let rows = fetch!(tx.conn(), "api_services", (Word<ApiServiceStatus>,), sql, id.0)?;
    Ok(rows.into_iter().next().map(|(status,)| status.0))
}
