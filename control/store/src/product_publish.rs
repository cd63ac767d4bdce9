//! Tables `product_publishes`, `product_publish_revisions` and the claims on hostnames.

mod claims;
mod revisions;

use chrono::{DateTime, Utc};
use imp_core::product_publish::{
    AuthMode, Delivery, Environment, KeyLocations, NodeCounts, ProductPublish, ProductPublishSpec,
    PublishCondition, PublishError, PublishStatus,
};
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, ClusterId, GatewayId, ProductId, ProductPublishId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::agent::plain;
use crate::db::Conn;
use crate::sql::{Conditions, Stored, Word, any};
use crate::table::columns::columns;
use crate::table::{Reference, Table, micros, object, tenant_only};
use crate::{Result, Soon, StoreError, Tx};

pub use claims::{
    Claim, ClaimTime, Former, beside_gateway, claims_on, claims_on_soon, forget_free_hostnames,
    former_claims_soon, held_by_another, holders_soon, hostnames_of_gateway, insert_claims,
    is_another, replace_claims, replace_former_claims,
};
pub use revisions::{
    RevisionSummary, get_revision, get_revision_in, insert_revision, list_revisions,
    prune_revisions,
};

#[derive(Clone, Debug, Default)]
pub struct ProductPublishFilter {
    pub product_id: Option<ProductId>,
    pub gateway_id: Option<GatewayId>,
    pub cluster_id: Option<ClusterId>,
    pub environment: Option<Environment>,
    pub status: Option<PublishStatus>,
    /// The canonical hostname.
    pub hostname: Option<String>,
}

impl From<Row> for ProductPublish {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            status: row.status.0,
            desired_revision: row.desired_revision,
            acked_revision: row.acked_revision,
            nodes: row.nodes.0,
            last_error: row.last_error.map(|json| json.0),
            conditions: row.conditions.map(|json| json.0).unwrap_or_default(),
            activated_at: row.activated_at,
            spec: ProductPublishSpec {
                product_id: row.product_id.into(),
                api_services: row.api_services.0,
                gateway_id: row.gateway_id.into(),
                cluster_id: row.cluster_id.into(),
                environment: row.environment.0,
                auth_mode: row.auth_mode.0,
                api_key: row.api_key.map(|json| json.0),
                hostnames: row.hostnames.0,
                base_path: row.base_path,
                delivery: row.delivery.0,
            },
            meta: row.meta.into(),
        }
    }
}

object!(ProductPublish, ProductPublishId, ProductPublishFilter, "product_publishes");

columns! {
    ProductPublish as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        product_id: Uuid = it.spec.product_id.0,
        gateway_id: Uuid = it.spec.gateway_id.0,
        cluster_id: Uuid = it.spec.cluster_id.0,
    }
    changing {
        status: Word<PublishStatus> = it.status.as_str(),
        desired_revision: i64 = it.desired_revision,
        acked_revision: i64 = it.acked_revision,
        nodes: Stored<NodeCounts> = Json(it.nodes),
        last_error: Option<Stored<PublishError>> = it.last_error.as_ref().map(storable),
        conditions: Option<Stored<Vec<PublishCondition>>> = conditions(&it.conditions),
        activated_at: Option<DateTime<Utc>> = it.activated_at.map(micros),
        api_services: Stored<Vec<ApiServiceId>> = Json(&it.spec.api_services),
        environment: Word<Environment> = it.spec.environment.as_str(),
        auth_mode: Word<AuthMode> = Word(it.spec.auth_mode),
        api_key: Option<Stored<KeyLocations>> = it.spec.api_key.as_ref().map(Json),
        hostnames: Stored<Vec<String>> = Json(&it.spec.hostnames),
        base_path: String = &it.spec.base_path,
        delivery: Word<Delivery> = Word(it.spec.delivery),
    }
}

impl Table for ProductPublish {
    /// A customer sees the publishes of the products that it sees.
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
        conditions.id_in(
            "product_id IN (SELECT id FROM products \
             WHERE visibility = 'public' AND status <> 'draft' \
             UNION ALL SELECT product_id FROM subscriptions WHERE customer_id =",
            scope.customer(),
            ")",
        );
    }

    fn filter<'a>(filter: &'a ProductPublishFilter, conditions: &mut Conditions<'a>) {
        conditions.id("product_id =", filter.product_id);
        conditions.id("gateway_id =", filter.gateway_id);
        conditions.id("cluster_id =", filter.cluster_id);
        conditions.word("environment =", filter.environment);
        conditions.word("status =", filter.status);
        conditions.text_in(
            "id IN (SELECT product_publish_id FROM product_publish_claims WHERE hostname =",
            filter.hostname.as_deref(),
            ")",
        );
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        let references = vec![
            ("product_id", "products", Some(self.spec.product_id.0)),
            ("gateway_id", "gateways", Some(self.spec.gateway_id.0)),
            ("cluster_id", "clusters", Some(self.spec.cluster_id.0)),
        ];
        (Some(self.tenant_id.0), references)
    }

    /// Writes the services that it names as rows, so that foreign keys prevent their deletion.
    async fn insert_parts(&self, tx: &mut Tx) -> Result<()> {
        hold_services(tx, self).await
    }

    async fn delete_parts(&self, tx: &mut Tx) -> Result<()> {
        let sql = "DELETE FROM product_publish_api_services WHERE product_publish_id = $1";
        later!(tx.conn(), any, sql, self.id.0)
    }
}

/// The publish of any tenant, with its row locked until the transaction ends. On SQLite a write
/// transaction excludes all others anyway.
pub async fn get_for_update(tx: &mut Tx, id: ProductPublishId) -> Result<Option<ProductPublish>> {
    let sql = match tx.conn() {
        Conn::Sqlite(_) => concat!("SELECT ", selected!(), " FROM product_publishes WHERE id = $1"),
        Conn::Pg(_) => {
            concat!("SELECT ", selected!(), " FROM product_publishes WHERE id = $1 FOR UPDATE")
        }
    };
    let rows = fetch!(tx.conn(), "product_publishes", Row, sql, id.0)?;
    Ok(rows.into_iter().next().map(Into::into))
}

/// Writes the agents' reports from `after`: status, acknowledged revision, nodes, error,
/// activation, conditions. Not an edit: version and `updated_at` stay, and so do entity tags. Returns false if
/// the row is gone or no longer has the desired revision or status of `before`; then read again.
pub async fn report(tx: &mut Tx, before: &ProductPublish, after: &ProductPublish) -> Result<bool> {
    let soon = report_soon(tx, before, after).await?;
    tx.now(soon).await
}

/// Like [`report`], for an answer that is needed later.
pub async fn report_soon(
    tx: &mut Tx,
    before: &ProductPublish,
    after: &ProductPublish,
) -> Result<Soon<bool>> {
    let sql = "UPDATE product_publishes SET status = $2, acked_revision = $3, nodes = $4, \
        last_error = $5, activated_at = $6, conditions = $9 \
        WHERE id = $1 AND desired_revision = $7 AND status = $8 RETURNING id";
    soon!(
        tx.conn(),
        "product_publishes",
        (Uuid,),
        |rows: Vec<(Uuid,)>| Ok(!rows.is_empty()),
        sql,
        before.id.0,
        after.status.as_str(),
        after.acked_revision,
        Json(after.nodes),
        after.last_error.as_ref().map(storable),
        after.activated_at.map(micros),
        before.desired_revision,
        before.status.as_str(),
        conditions(&after.conditions),
    )
}

/// Inserts the services that it names as rows, so that foreign keys prevent their deletion.
async fn hold_services(tx: &mut Tx, publish: &ProductPublish) -> Result<()> {
    let sql = "INSERT INTO product_publish_api_services \
        (product_publish_id, tenant_id, api_service_id) VALUES ($1, $2, $3) \
        ON CONFLICT (product_publish_id, api_service_id) DO NOTHING";
    for service in &publish.spec.api_services {
        later!(tx.conn(), held, sql, publish.id.0, publish.tenant_id.0, service.0)?;
    }
    Ok(())
}

fn held(done: Result<u64>) -> Result<()> {
    done.map(drop).map_err(|error| match crate::error::foreign_key(&error) {
        Some(_) => StoreError::MissingReference { field: "api_services" },
        None => error,
    })
}

/// NULL without any. Names that others have given may hold any text.
fn conditions(list: &[PublishCondition]) -> Option<Json<Vec<PublishCondition>>> {
    let text = |text: &Option<String>| text.as_deref().map(plain);
    let storable = |it: &PublishCondition| PublishCondition {
        kind: plain(&it.kind),
        reason: plain(&it.reason),
        message: plain(&it.message),
        since: micros(it.since),
        object: text(&it.object),
        field: text(&it.field),
        by: text(&it.by),
        corrected_at: it.corrected_at.map(micros),
    };
    (!list.is_empty()).then(|| Json(list.iter().map(storable).collect()))
}

/// Removes NUL from Envoy's message, which may be any text.
pub(crate) fn storable(error: &PublishError) -> Json<PublishError> {
    Json(PublishError {
        code: plain(&error.code),
        resource: plain(&error.resource),
        envoy_message: plain(&error.envoy_message),
        hint: plain(&error.hint),
    })
}
