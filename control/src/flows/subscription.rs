//! Subscribing: a customer, a product in an environment, a plan.

use imp_core::customer::Customer;
use imp_core::plan::Plan;
use imp_core::product::{CatalogStatus, Product, Visibility};
use imp_core::product_publish::{Environment, ProductPublish};
use imp_core::role::{Action, Kind, any_allows};
use imp_core::subscription::{
    PlanChange, Subscription, SubscriptionSpec, SubscriptionStatus, period_end,
};
use imp_core::{Meta, SubscriptionId};
use imp_store::outbox::Subject;
use imp_store::subscription::{self as table, SubscriptionFilter};
use imp_store::{Page, StoreError, job, plan};

use crate::flows::Write;
use crate::jobs::change_plan;
use crate::problem::Problem;

/// A new subscription: active at once when the plan says so. The write's scope is the tenant's. A
/// customer has one at most to a product in an environment, whatever state that is in.
pub async fn create(
    write: &mut Write<'_>,
    customer: &Customer,
    spec: SubscriptionSpec,
) -> Result<Subscription, Problem> {
    let (product, environment) = target(write, &spec).await?;
    on_sale("product", product.status)?;
    let plan = plan_of(write, &spec, &product).await?;
    let there = table::living(&mut write.tx, customer.id, product.id, environment).await?;
    if let Some(living) = there.first() {
        return Err(already_subscribed(living));
    }
    let (status, activated_at) = if plan.spec.auto_approve {
        (SubscriptionStatus::Active, Some(Meta::new(write.now).created_at))
    } else {
        (SubscriptionStatus::Pending, None)
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
        activated_at,
        plan_change: None,
        meta: Meta::new(write.now),
    };
    if let Err(error) = table::insert(&mut write.tx, &subscription).await {
        return Err(refused(write, &subscription, error).await);
    }
    write.note(Subject::Subscription(subscription.id)).await?;
    Ok(subscription)
}

/// Another one may have been made since we looked. This transaction is over then, so what is named
/// is read outside of it.
async fn refused(write: &Write<'_>, wanted: &Subscription, error: StoreError) -> Problem {
    if !matches!(error, StoreError::Taken { .. }) {
        return error.into();
    }
    let filter = SubscriptionFilter {
        customer_id: Some(wanted.customer_id),
        product_id: Some(wanted.product_id),
        environment: Some(wanted.environment),
        ..SubscriptionFilter::default()
    };
    let there = table::list(&write.call.state.store, &write.scope, &filter, Page::all()).await;
    match there {
        Ok(there) => there
            .iter()
            .find(|it| it.status.is_living())
            .map_or_else(|| Problem::from(error), already_subscribed),
        Err(error) => error.into(),
    }
}

fn already_subscribed(living: &Subscription) -> Problem {
    let detail = format!(
        "the customer has subscription {} to this product in {}, which is {}",
        living.id,
        living.environment.as_str(),
        living.status.as_str()
    );
    Problem::conflict("already_subscribed", detail).at("/product_id")
}

/// Its keys open nothing any more.
pub fn refuse_ended(subscription: &Subscription) -> Result<(), Problem> {
    if subscription.status.is_living() {
        return Ok(());
    }
    let detail = format!("the subscription is {}", subscription.status.as_str());
    Err(Problem::conflict("subscription_ended", detail))
}

/// What was in force is in the books; what never was may go.
pub async fn delete(write: &mut Write<'_>, subscription: Subscription) -> Result<(), Problem> {
    if subscription.activated_at.is_some() {
        let detail = "it was in force, so it stays in the books; cancel it";
        return Err(Problem::conflict("subscription_was_active", detail));
    }
    table::delete(&mut write.tx, &write.scope, subscription.id).await?;
    write.note(Subject::Subscription(subscription.id)).await
}

/// Moves a subscription to another plan of the product; keys stay. A plan that needs approval is
/// the provider's to give.
pub async fn change_plan(
    write: &mut Write<'_>,
    subscription: Subscription,
    spec: SubscriptionSpec,
) -> Result<Subscription, Problem> {
    refuse_ended_change(&subscription)?;
    let product = write.refer::<Product>(subscription.product_id, "/product_id").await?;
    let plan = plan_of(write, &spec, &product).await?;
    move_to(write, subscription, &plan).await
}

/// Moves a subscription to the newest terms of the plan that it is on.
pub async fn move_to_current(
    write: &mut Write<'_>,
    subscription: Subscription,
) -> Result<Subscription, Problem> {
    refuse_ended_change(&subscription)?;
    let plan = write.refer::<Plan>(subscription.plan_id, "/plan_id").await?;
    if plan.plan_version == subscription.plan_version {
        let detail = format!("it is on version {} of the plan, the newest", plan.plan_version);
        return Err(Problem::conflict("already_current", detail));
    }
    move_to(write, subscription, &plan).await
}

/// Takes back a change of plan that has not come yet.
pub async fn keep_plan(
    write: &mut Write<'_>,
    mut subscription: Subscription,
) -> Result<Subscription, Problem> {
    if subscription.plan_change.take().is_none() {
        return Err(Problem::conflict("no_plan_change", "no change of plan is to come"));
    }
    let status = subscription.status;
    turn(write, subscription, status, None).await
}

fn refuse_ended_change(subscription: &Subscription) -> Result<(), Problem> {
    if subscription.status.is_living() {
        return Ok(());
    }
    let detail = format!("a subscription that is {} keeps its plan", subscription.status.as_str());
    Err(Problem::conflict("invalid_transition", detail))
}

/// Terms that give as much of everything hold at once; others at the period's end, so that nobody
/// uses up the one plan and then the other.
async fn move_to(
    write: &mut Write<'_>,
    mut subscription: Subscription,
    plan: &Plan,
) -> Result<Subscription, Problem> {
    let may_decide = any_allows(&write.call.principal.roles, Kind::Subscription, Action::Decide);
    if !plan.spec.auto_approve && !may_decide {
        return Err(Problem::forbidden("the provider moves subscriptions to this plan"));
    }
    let (id, version) = (subscription.plan_id, subscription.plan_version);
    let now = plan::version_in(&mut write.tx, id, version).await?;
    let at_once = subscription.status == SubscriptionStatus::Pending
        || now.is_none_or(|now| plan.spec.gives_as_much_as(&now));
    if at_once {
        subscription.plan_id = plan.id;
        subscription.plan_version = plan.plan_version;
        subscription.plan_change = None;
    } else {
        let at = period_end(write.now);
        let (plan_id, plan_version) = (plan.id, plan.plan_version);
        subscription.plan_change = Some(PlanChange { plan_id, plan_version, at });
        let change = change_plan::job(subscription.id, at, write.now);
        job::schedule(&mut write.tx, &change).await?;
    }
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
    if status == SubscriptionStatus::Active {
        subscription.activated_at.get_or_insert(subscription.meta.updated_at);
    }
    if !status.is_living() {
        subscription.plan_change = None;
    }
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
