//! Products: their services and life cycle.

use imp_core::api_service::{ApiService, ApiServiceStatus};
use imp_core::product::{CatalogStatus, Product, ProductSpec};
use imp_core::scope::TenantScope;
use imp_core::subscription::Subscription;
use imp_core::subscription::SubscriptionStatus;
use imp_core::{ApiServiceId, Meta, ProductId, TenantId};
use imp_store::Record as _;
use imp_store::subscription::SubscriptionFilter;

use crate::entity::Stored as _;
use crate::flows::publish::service_retired;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    tenant_id: TenantId,
    status: CatalogStatus,
    spec: ProductSpec,
) -> Result<Product, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    check_services(&mut tx, &spec, &[]).await?;
    let id = ProductId::new();
    let product = Product { id, tenant_id, status, spec, meta: Meta::new(tx.now) };
    super::create(tx, product).await
}

pub async fn edit(
    tx: &mut Transaction<'_>,
    current: Product,
    spec: ProductSpec,
) -> Result<Product, Refusal> {
    refuse_closed(Product::NOUN, current.status)?;
    tx.within(current.tenant_id)?;
    check_services(tx, &spec, &current.spec.api_services).await?;
    tx.save(Product { spec, ..current }).await
}

pub async fn activate(tx: &mut Transaction<'_>, product: Product) -> Result<Product, Refusal> {
    let status = product.status.activate(Product::NOUN)?;
    tx.save(Product { status, ..product }).await
}

pub async fn deprecate(tx: &mut Transaction<'_>, product: Product) -> Result<Product, Refusal> {
    let status = product.status.deprecate(Product::NOUN)?;
    tx.save(Product { status, ..product }).await
}

/// Closes the product, if nobody is subscribed.
pub async fn close(tx: &mut Transaction<'_>, product: Product) -> Result<Product, Refusal> {
    let status = product.status.close(Product::NOUN)?;
    let of_it =
        SubscriptionFilter { product_id: Some(product.id), ..SubscriptionFilter::default() };
    refuse_while_subscribed(tx, of_it).await?;
    tx.save(Product { status, ..product }).await
}

/// Refuses changes to a closed object.
pub(super) fn refuse_closed(noun: &str, status: CatalogStatus) -> Result<(), Refusal> {
    if status == CatalogStatus::Closed {
        let detail = format!("the {noun} is closed and stays as it is");
        return Err(Refusal::conflict("invalid_transition", detail));
    }
    Ok(())
}

/// Refuses while a subscription exists.
pub(super) async fn refuse_while_subscribed(
    tx: &mut Transaction<'_>,
    filter: SubscriptionFilter,
) -> Result<(), Refusal> {
    use SubscriptionStatus::{Active, Pending, Suspended};
    let scope = tx.scope;
    for status in [Pending, Active, Suspended] {
        let filter = SubscriptionFilter { status: Some(status), ..filter.clone() };
        let one = imp_store::Page { after: None, limit: 1 };
        if !Subscription::list_in(tx, &scope, &filter, one).await?.is_empty() {
            let detail = "subscriptions still stand; cancel them first";
            return Err(Refusal::conflict("in_use", detail));
        }
    }
    Ok(())
}

/// Checks the services. `held` are those that the product already has: a retired one may stay until
/// it is removed.
async fn check_services(
    tx: &mut Transaction<'_>,
    spec: &ProductSpec,
    held: &[ApiServiceId],
) -> Result<(), Refusal> {
    for (index, id) in spec.api_services.iter().enumerate() {
        let pointer = format!("/api_services/{index}");
        let service = tx.refer::<ApiService>(*id, &pointer).await?;
        if service.status == ApiServiceStatus::Retired && !held.contains(id) {
            return Err(service_retired(&pointer));
        }
        if spec.api_services.iter().take(index).any(|other| other == id) {
            let why = "this service is in the list already";
            return Err(Refusal::invalid(&pointer, "duplicate_service", why));
        }
    }
    Ok(())
}
