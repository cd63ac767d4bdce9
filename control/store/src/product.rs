//! Tables `products` and `product_api_services`. The list of services stands twice: in order in the
//! product's row, which is what reads use, and as rows, so that the database itself refuses to
//! delete a service that a product holds.

use imp_core::product::{CatalogStatus, Product, ProductSpec, Visibility};
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, ProductId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored, Word};
use crate::table::{MetaRow, Table, explained, matched, object, tenant_only};
use crate::{Result, StoreError, Tx};

/// Which products to list.
#[derive(Clone, Debug, Default)]
pub struct ProductFilter {
    /// Exactly this name.
    pub name: Option<String>,
    /// Exactly this version.
    pub product_version: Option<String>,
    /// In this state.
    pub status: Option<CatalogStatus>,
    /// For these eyes.
    pub visibility: Option<Visibility>,
    /// That hold this service.
    pub api_service_id: Option<ApiServiceId>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    status: Word<CatalogStatus>,
    name: String,
    product_version: String,
    description: String,
    categories: Stored<Vec<String>>,
    visibility: Word<Visibility>,
    api_services: Stored<Vec<ApiServiceId>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Product {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            status: row.status.0,
            spec: ProductSpec {
                name: row.name,
                product_version: row.product_version,
                description: row.description,
                categories: row.categories.0,
                visibility: row.visibility.0,
                api_services: row.api_services.0,
            },
            meta: row.meta.into(),
        }
    }
}

object!(Product, ProductId, ProductFilter, "products");

impl Table for Product {
    type Row = Row;

    const COLUMNS: &'static str = "id, tenant_id, status, name, product_version, description, \
        categories, visibility, api_services, version, created_at, updated_at";

    /// A customer sees what is public and no draft, and what it subscribes to.
    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_only(scope, conditions);
        conditions.id_in(
            "status <> 'draft' AND (visibility = 'public' OR id IN \
             (SELECT product_id FROM subscriptions WHERE customer_id =",
            scope.customer(),
            "))",
        );
    }

    fn filter<'a>(filter: &'a ProductFilter, conditions: &mut Conditions<'a>) {
        conditions.text("name =", filter.name.as_deref());
        conditions.text("product_version =", filter.product_version.as_deref());
        conditions.word("status =", filter.status);
        conditions.word("visibility =", filter.visibility);
        conditions.id_in(
            "id IN (SELECT product_id FROM product_api_services WHERE api_service_id =",
            filter.api_service_id,
            ")",
        );
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, product: &Product) -> Result<()> {
    let sql = "INSERT INTO products (id, tenant_id, status, name, product_version, description, \
        categories, visibility, api_services, version, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    save(tx, sql, product, 0).await?;
    hold_services(tx, product).await
}

/// Replaces it if it still is at `expected_version`.
pub async fn update(tx: &mut Tx, product: &Product, expected_version: i64) -> Result<()> {
    let sql = "UPDATE products SET status = $3, name = $4, product_version = $5, \
        description = $6, categories = $7, visibility = $8, api_services = $9, version = $10, \
        updated_at = $12 WHERE id = $1 AND tenant_id = $2 AND version = $13";
    let rows = save(tx, sql, product, expected_version).await?;
    matched::<Product>(tx, rows, product.id.into()).await?;
    let sql = "DELETE FROM product_api_services WHERE product_id = $1";
    execute!(tx.conn(), sql, product.id.0)?;
    hold_services(tx, product).await
}

async fn hold_services(tx: &mut Tx, product: &Product) -> Result<()> {
    let sql = "INSERT INTO product_api_services (product_id, tenant_id, api_service_id) \
        VALUES ($1, $2, $3) ON CONFLICT (product_id, api_service_id) DO NOTHING";
    for service in &product.spec.api_services {
        let done = execute!(tx.conn(), sql, product.id.0, product.tenant_id.0, service.0);
        let field = "api_services";
        done.map_err(|error| match crate::error::foreign_key(&error) {
            Some(_) => StoreError::MissingReference { field },
            None => error,
        })?;
    }
    Ok(())
}

async fn save(tx: &mut Tx, sql: &'static str, product: &Product, expected: i64) -> Result<u64> {
    let Product { id, tenant_id, status, spec, meta } = product;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        status.as_str(),
        &spec.name,
        &spec.product_version,
        &spec.description,
        Json(&spec.categories),
        spec.visibility.as_str(),
        Json(&spec.api_services),
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    );
    explained(tx, done, None, &[("tenant_id", "tenants", Some(tenant_id.0))]).await
}
