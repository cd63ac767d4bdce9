//! Subscribing: a customer, a product in an environment, a plan.

use imp_core::customer::Customer;
use imp_core::plan::Plan;
use imp_core::product::{CatalogStatus, Product, Visibility};
use imp_core::product_publish::{Environment, ProductPublish};
use imp_core::role::{Action, Kind, any_allows};
use imp_core::subscription::{Subscription, SubscriptionSpec, SubscriptionStatus};
use imp_core::{Meta, SubscriptionId};
use imp_store::outbox::Subject;
use imp_store::subscription as table;

use crate::flows::Write;
use crate::problem::Problem;

/// A new subscription: active at once when the plan says so. The write's scope is the tenant's.
pub async fn create(
    write: &mut Write<'_>,
    customer: &Customer,
    spec: SubscriptionSpec,
) -> Result<Subscription, Problem> {
    let (product, environment) = target(write, &spec).await?;
    on_sale("product", product.status)?;
    let plan = plan_of(write, &spec, &product).await?;
    let status = if plan.spec.auto_approve {
        SubscriptionStatus::Active
    } else {
        SubscriptionStatus::Pending
    };
    let subscription = Subscription {
        id: SubscriptionId::new(),
        tenant_id: customer.tenant_id,
        customer_id: customer.id,
        product_id: product.id,
        environment,
        product_publish_id: spec.product_publish_id,
        plan_id: plan.id,
        plan_version: plan.plan_version,
        status,
        reason: String::new(),
        ends_at: None,
        meta: Meta::new(write.now),
    };
    table::insert(&mut write.tx, &subscription).await?;
    write.note(Subject::Subscription(subscription.id)).await?;
    Ok(subscription)
}

/// Moves a subscription to another plan of the product; keys stay. A plan that needs approval is
/// the provider's to give.
pub async fn change_plan(
    write: &mut Write<'_>,
    mut subscription: Subscription,
    spec: SubscriptionSpec,
) -> Result<Subscription, Problem> {
    use SubscriptionStatus::{Active, Pending, Suspended};
    if !matches!(subscription.status, Active | Pending | Suspended) {
        let detail =
            format!("a subscription that is {} keeps its plan", subscription.status.as_str());
        return Err(Problem::conflict("invalid_transition", detail));
    }
    let product = write.refer::<Product>(subscription.product_id, "/product_id").await?;
    let plan = plan_of(write, &spec, &product).await?;
    let may_decide = any_allows(&write.call.principal.roles, Kind::Subscription, Action::Decide);
    if !plan.spec.auto_approve && !may_decide {
        return Err(Problem::forbidden("the provider moves subscriptions to this plan"));
    }
    subscription.plan_id = plan.id;
    subscription.plan_version = plan.plan_version;
    let status = subscription.status;
    turn(write, subscription, status, None).await
}

/// Goes to another state; `reason` replaces the former one when given.
pub async fn turn(
    write: &mut Write<'_>,
    mut subscription: Subscription,
    status: SubscriptionStatus,
    reason: Option<String>,
) -> Result<Subscription, Problem> {
    let expected = subscription.meta.version;
    subscription.status = status;
    subscription.reason = reason.unwrap_or(subscription.reason);
    subscription.meta.touch(write.now);
    if status == SubscriptionStatus::Cancelled {
        subscription.ends_at = Some(subscription.meta.updated_at);
    }
    table::update(&mut write.tx, &subscription, expected).await?;
    write.note(Subject::Subscription(subscription.id)).await?;
    Ok(subscription)
}

/// Product and environment: as named, or those of the publish that it is pinned to.
async fn target(
    write: &mut Write<'_>,
    spec: &SubscriptionSpec,
) -> Result<(Product, Environment), Problem> {
    let pinned = match spec.product_publish_id {
        Some(id) => Some(write.refer::<ProductPublish>(id, "/product_publish_id").await?.spec),
        None => None,
    };
    let differs = |pointer: &str| {
        Err(Problem::invalid(pointer, "conflict", "the publish has another one; leave this out"))
    };
    let pinned_product = pinned.as_ref().map(|publish| publish.product_id);
    let pinned_environment = pinned.as_ref().map(|publish| publish.environment);
    if pinned_product.is_some() && spec.product_id.is_some_and(|id| Some(id) != pinned_product) {
        return differs("/product_id");
    }
    let named = spec.environment;
    if pinned_environment.is_some() && named.is_some() && named != pinned_environment {
        return differs("/environment");
    }
    let product_id = pinned_product.or(spec.product_id);
    let environment = pinned_environment.or(named);
    let (Some(product_id), Some(environment)) = (product_id, environment) else {
        return Err(Problem::invalid("/product_id", "required", "name a product"));
    };
    let product = write.refer::<Product>(product_id, "/product_id").await?;
    let hidden = write.scope.customer().is_some() && product.spec.visibility == Visibility::Private;
    if hidden {
        return Err(Problem::unknown_reference("/product_id", "product"));
    }
    Ok((product, environment))
}

async fn plan_of(
    write: &mut Write<'_>,
    spec: &SubscriptionSpec,
    product: &Product,
) -> Result<Plan, Problem> {
    let plan = write.refer::<Plan>(spec.plan_id, "/plan_id").await?;
    if plan.product_id != product.id {
        let why = "this plan is another product's";
        return Err(Problem::invalid("/plan_id", "unknown_reference", why));
    }
    on_sale("plan", plan.status)?;
    Ok(plan)
}

fn on_sale(noun: &str, status: CatalogStatus) -> Result<(), Problem> {
    if status == CatalogStatus::Active {
        return Ok(());
    }
    let detail = format!("the {noun} is {}: no new subscriptions", status.as_str());
    Err(Problem::conflict("not_on_sale", detail))
}
