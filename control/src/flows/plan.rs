//! Plans: their life cycle and the versions of their terms.

use imp_core::plan::{Plan, PlanSpec};
use imp_core::product::{CatalogStatus, Product};
use imp_core::scope::TenantScope;
use imp_core::{Meta, PlanId, ProductId};
use imp_store::outbox::Subject;
use imp_store::plan as table;
use imp_store::subscription::{self, SubscriptionFilter};

use crate::entity::Stored as _;
use crate::flows::finish_create;
use crate::flows::product::{refuse_closed, refuse_while_subscribed};
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// Creates a plan with the first version of its terms.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    product_id: ProductId,
    status: CatalogStatus,
    spec: PlanSpec,
) -> Result<Plan, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let product = tx.refer::<Product>(product_id, "/product_id").await?;
    tx.within(product.tenant_id)?;
    if product.status == CatalogStatus::Closed {
        let detail = "the product is closed: no new plans";
        return Err(Refusal::conflict("invalid_transition", detail));
    }
    let plan = Plan {
        id: PlanId::new(),
        tenant_id: product.tenant_id,
        product_id: product.id,
        status,
        plan_version: 1,
        spec,
        meta: Meta::new(tx.now),
    };
    tx.insert(&plan).await?;
    table::insert_version(&mut tx, plan.id, plan.plan_version, &plan.spec).await?;
    finish_create::<Plan>(tx, plan.id).await?;
    Ok(plan)
}

/// Changes the plan. New limits make a new version of the terms; existing subscriptions keep the
/// old one.
pub async fn edit(
    tx: &mut Transaction<'_>,
    mut plan: Plan,
    spec: PlanSpec,
) -> Result<Plan, Refusal> {
    refuse_closed(Plan::NOUN, plan.status)?;
    let new_terms = plan.spec.all_limits() != spec.all_limits();
    plan.spec = spec;
    if new_terms {
        plan.plan_version += 1;
    }
    let plan = tx.save(plan).await?;
    if new_terms {
        table::insert_version(tx, plan.id, plan.plan_version, &plan.spec).await?;
        tx.note(Subject::Plan(plan.id)).await?;
    }
    Ok(plan)
}

pub async fn delete(tx: &mut Transaction<'_>, plan: Plan) -> Result<(), Refusal> {
    refuse_awaited(tx, plan.id).await?;
    tx.delete::<Plan>(plan.id).await
}

pub async fn activate(tx: &mut Transaction<'_>, plan: Plan) -> Result<Plan, Refusal> {
    let status = plan.status.activate(Plan::NOUN)?;
    tx.save(Plan { status, ..plan }).await
}

pub async fn deprecate(tx: &mut Transaction<'_>, plan: Plan) -> Result<Plan, Refusal> {
    let status = plan.status.deprecate(Plan::NOUN)?;
    tx.save(Plan { status, ..plan }).await
}

/// Closes the plan, if no subscription is on it or is to be moved to it.
pub async fn close(tx: &mut Transaction<'_>, plan: Plan) -> Result<Plan, Refusal> {
    let status = plan.status.close(Plan::NOUN)?;
    let of_it = SubscriptionFilter { plan_id: Some(plan.id), ..SubscriptionFilter::default() };
    refuse_while_subscribed(tx, of_it).await?;
    refuse_awaited(tx, plan.id).await?;
    tx.save(Plan { status, ..plan }).await
}

/// Refuses while a subscription is to be moved to it at the period's end.
async fn refuse_awaited(tx: &mut Transaction<'_>, plan: PlanId) -> Result<(), Refusal> {
    if subscription::awaits(tx, plan).await? {
        let detail = "subscriptions are to move to it; take these changes back first";
        return Err(Refusal::conflict("in_use", detail));
    }
    Ok(())
}
