//! Tables `products` and `product_api_services`. The list of services is stored twice: in order in
//! the product's row, for reads, and as rows, so that foreign keys prevent the deletion of a
//! service in use.

use imp_core::product::{CatalogStatus, Product, ProductSpec, Visibility};
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, ProductId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored, Word};
use crate::table::columns::columns;
use crate::table::{Reference, Table, object, tenant_only};
use crate::{Result, StoreError, Tx};

#[derive(Clone, Debug, Default)]
pub struct ProductFilter {
    pub name: Option<String>,
    pub product_version: Option<String>,
    pub status: Option<CatalogStatus>,
    pub visibility: Option<Visibility>,
    /// Only products with this service.
    pub api_service_id: Option<ApiServiceId>,
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

columns! {
    Product as it;
    fixed { id: Uuid = it.id.0, tenant_id: Uuid = it.tenant_id.0, }
    changing {
        status: Word<CatalogStatus> = it.status.as_str(),
        name: String = &it.spec.name,
        product_version: String = &it.spec.product_version,
        description: String = &it.spec.description,
        categories: Stored<Vec<String>> = Json(&it.spec.categories),
        visibility: Word<Visibility> = it.spec.visibility.as_str(),
        api_services: Stored<Vec<ApiServiceId>> = Json(&it.spec.api_services),
    }
}

impl Table for Product {
    /// A customer sees public products, except drafts, and those it is subscribed to.
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

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, vec![("tenant_id", "tenants", Some(self.tenant_id.0))])
    }

    async fn insert_parts(&self, tx: &mut Tx) -> Result<()> {
        hold_services(tx, self).await
    }

    async fn delete_parts(&self, tx: &mut Tx) -> Result<()> {
        let sql = "DELETE FROM product_api_services WHERE product_id = $1";
        execute!(tx.conn(), sql, self.id.0).map(drop)
    }
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
