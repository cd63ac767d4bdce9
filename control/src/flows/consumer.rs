//! Consumers: an app under a subscription.

use imp_core::client_app::ClientApp;
use imp_core::consumer::{Consumer, ConsumerSpec};
use imp_core::scope::TenantScope;
use imp_core::subscription::Subscription;
use imp_core::{ConsumerId, Meta};

use crate::flows::subscription::refuse_ended;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// Creates a consumer. App and subscription must have the same customer, and the subscription must
/// not have ended.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: ConsumerSpec,
) -> Result<Consumer, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let subscription: Subscription = tx.refer(spec.subscription_id, "/subscription_id").await?;
    tx.within(subscription.tenant_id)?;
    let app: ClientApp = tx.refer(spec.client_app_id, "/client_app_id").await?;
    if app.spec.customer_id != subscription.customer_id {
        let why = "app and subscription are of two customers";
        return Err(Refusal::invalid("/client_app_id", "other_customer", why));
    }
    refuse_ended(&subscription)?;
    let consumer = Consumer {
        id: ConsumerId::new(),
        tenant_id: subscription.tenant_id,
        customer_id: subscription.customer_id,
        spec,
        meta: Meta::new(tx.now),
    };
    super::create(tx, consumer).await
}
