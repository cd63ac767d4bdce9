//! Subscriptions: a customer, a product in an environment, a plan.

use chrono::SubsecRound as _;
use imp_core::customer::Customer;
use imp_core::plan::Plan;
use imp_core::product::{CatalogStatus, Product, Visibility};
use imp_core::product_publish::{Environment, ProductPublish};
use imp_core::role::{Action, Kind};
use imp_core::scope::TenantScope;
use imp_core::subscription::{
    PlanChange, Subscription, SubscriptionSpec, SubscriptionStatus, period_end,
};
use imp_core::{Meta, SubscriptionId};
use imp_store::subscription::{self as table, SubscriptionFilter};
use imp_store::{Page, Record as _, StoreError, job, plan};

use crate::flows::{capabilities, finish_create};
use crate::jobs::change_plan;
use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// Creates a subscription, active at once if the plan says so. The plan limits how many a customer
/// may have to a product in an environment, counting all plans and all states but ended ones.
pub async fn create(
    operation: &Operation,
    scope: TenantScope,
    spec: SubscriptionSpec,
) -> Result<Subscription, Refusal> {
    let mut tx = Transaction::begin(operation, scope).await?;
    let customer: Customer = tx.refer(spec.customer_id, "/customer_id").await?;
    tx.within(customer.tenant_id)?;
    let subscription = insert(&mut tx, &customer, spec).await?;
    finish_create::<Subscription>(tx, subscription.id).await?;
    Ok(subscription)
}

async fn insert(
    tx: &mut Transaction<'_>,
    customer: &Customer,
    spec: SubscriptionSpec,
) -> Result<Subscription, Refusal> {
    let (product, environment) = target(tx, &spec).await?;
    on_sale("product", product.status)?;
    let plan = plan_of(tx, &spec, &product).await?;
    let there = table::living(tx, customer.id, product.id, environment).await?;
    if let Some(living) = beyond(&there, &plan) {
        return Err(already_subscribed(living, there.len()));
    }
    let offer = (product.id, environment);
    capabilities::refuse_unsupported_terms(tx, &plan.spec, offer, "/plan_id").await?;
    let (status, activated_at) = if plan.spec.auto_approve {
        (SubscriptionStatus::Active, Some(Meta::new(tx.now).created_at))
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
        ordinal: free_ordinal(&there),
        plan_id: plan.id,
        plan_version: plan.plan_version,
        status,
        reason: String::new(),
        ends_at: None,
        activated_at,
        plan_change: None,
        meta: Meta::new(tx.now),
    };
    match tx.insert(&subscription).await {
        Ok(()) => Ok(subscription),
        Err(Refusal::Store(error)) => Err(refused(tx, &subscription, error).await),
        Err(refusal) => Err(refusal),
    }
}

/// Returns one of the others if the plan allows no more than there are.
fn beyond<'a>(others: &'a [Subscription], plan: &Plan) -> Option<&'a Subscription> {
    let allowed = plan.spec.subscriptions_per_customer as usize;
    others.first().filter(|_| others.len() >= allowed)
}

fn free_ordinal(others: &[Subscription]) -> i64 {
    let mut ordinals = 0..;
    let free = ordinals.find(|ordinal| others.iter().all(|other| other.ordinal != *ordinal));
    free.unwrap_or_default()
}

/// The error when a concurrent request created another one. This transaction has failed, so the row
/// to name is read outside of it.
async fn refused(tx: &Transaction<'_>, wanted: &Subscription, error: StoreError) -> Refusal {
    if !matches!(error, StoreError::Taken { .. }) {
        return error.into();
    }
    let filter = SubscriptionFilter {
        customer_id: Some(wanted.customer_id),
        product_id: Some(wanted.product_id),
        environment: Some(wanted.environment),
        ..SubscriptionFilter::default()
    };
    let there = Subscription::list(&tx.operation.store, &tx.scope, &filter, Page::all()).await;
    match there {
        Ok(there) => {
            let living: Vec<_> = there.iter().filter(|it| it.status.is_living()).collect();
            let first = living.first().map(|first| already_subscribed(first, living.len()));
            first.unwrap_or_else(|| error.into())
        }
        Err(error) => error.into(),
    }
}

fn already_subscribed(living: &Subscription, all: usize) -> Refusal {
    let more = match all {
        0 | 1 => String::new(),
        _ => format!(" and {} more; the plan allows no other one beside them", all - 1),
    };
    let detail = format!(
        "the customer has subscription {} to this product in {}, which is {}{more}",
        living.id,
        living.environment.as_str(),
        living.status.as_str()
    );
    Refusal::conflict("already_subscribed", detail).at("/product_id")
}

/// Refuses an ended subscription.
pub fn refuse_ended(subscription: &Subscription) -> Result<(), Refusal> {
    if subscription.status.is_living() {
        return Ok(());
    }
    let detail = format!("the subscription is {}", subscription.status.as_str());
    Err(Refusal::conflict("subscription_ended", detail))
}

/// Deletes the subscription. One that was ever in force is kept as a record.
pub async fn delete(tx: &mut Transaction<'_>, subscription: Subscription) -> Result<(), Refusal> {
    if subscription.activated_at.is_some() {
        let detail = "it was active, so it is kept as a record; cancel it instead";
        return Err(Refusal::conflict("subscription_was_active", detail));
    }
    tx.delete::<Subscription>(subscription.id).await
}

/// Moves a subscription to another plan of the product; its keys stay. Only the provider can move
/// it to a plan that needs approval.
pub async fn change_plan(
    tx: &mut Transaction<'_>,
    subscription: Subscription,
    spec: SubscriptionSpec,
) -> Result<Subscription, Refusal> {
    tx.within(subscription.tenant_id)?;
    refuse_ended_change(&subscription)?;
    let product = tx.refer::<Product>(subscription.product_id, "/product_id").await?;
    let plan = plan_of(tx, &spec, &product).await?;
    move_to(tx, subscription, &plan).await
}

/// Moves a subscription to the newest terms of its plan.
pub async fn move_to_current(
    tx: &mut Transaction<'_>,
    subscription: Subscription,
) -> Result<Subscription, Refusal> {
    refuse_ended_change(&subscription)?;
    let plan = tx.refer::<Plan>(subscription.plan_id, "/plan_id").await?;
    if plan.plan_version == subscription.plan_version {
        let detail = format!("it is on version {} of the plan, the newest", plan.plan_version);
        return Err(Refusal::conflict("already_current", detail));
    }
    move_to(tx, subscription, &plan).await
}

/// Cancels a pending change of plan.
pub async fn keep_plan(
    tx: &mut Transaction<'_>,
    mut subscription: Subscription,
) -> Result<Subscription, Refusal> {
    if subscription.plan_change.take().is_none() {
        return Err(Refusal::conflict("no_plan_change", "no change of plan is to come"));
    }
    let status = subscription.status;
    turn(tx, subscription, status, None).await
}

fn refuse_ended_change(subscription: &Subscription) -> Result<(), Refusal> {
    if subscription.status.is_living() {
        return Ok(());
    }
    let detail = format!("a subscription that is {} keeps its plan", subscription.status.as_str());
    Err(Refusal::conflict("invalid_transition", detail))
}

/// Terms that give at least as much of everything take effect at once, others at the end of the
/// period, so that nobody uses up one plan and then the other.
async fn move_to(
    tx: &mut Transaction<'_>,
    mut subscription: Subscription,
    plan: &Plan,
) -> Result<Subscription, Refusal> {
    let may_decide = tx.operation.actor.may(Kind::Subscription, Action::Decide);
    if !plan.spec.auto_approve && !may_decide {
        return Err(Refusal::forbidden("the provider moves subscriptions to this plan"));
    }
    if plan.id != subscription.plan_id {
        refuse_beside_others(tx, &subscription, plan).await?;
    }
    let offer = (subscription.product_id, subscription.environment);
    capabilities::refuse_unsupported_terms(tx, &plan.spec, offer, "/plan_id").await?;
    let (id, version) = (subscription.plan_id, subscription.plan_version);
    let now = plan::version_in(tx, id, version).await?;
    let at_once = subscription.status == SubscriptionStatus::Pending
        || now.is_none_or(|now| plan.spec.gives_as_much_as(&now));
    if at_once {
        subscription.plan_id = plan.id;
        subscription.plan_version = plan.plan_version;
        subscription.plan_change = None;
    } else {
        let at = period_end(tx.now);
        let (plan_id, plan_version) = (plan.id, plan.plan_version);
        subscription.plan_change = Some(PlanChange { plan_id, plan_version, at });
        let change = change_plan::job(subscription.id, at, tx.now);
        job::schedule(tx, &change).await?;
    }
    let status = subscription.status;
    turn(tx, subscription, status, None).await
}

/// Refuses a plan that allows fewer subscriptions than the customer has.
async fn refuse_beside_others(
    tx: &mut Transaction<'_>,
    it: &Subscription,
    plan: &Plan,
) -> Result<(), Refusal> {
    let mut others = table::living(tx, it.customer_id, it.product_id, it.environment).await?;
    // Subscriptions that a former release allowed beside it share its counters.
    others.retain(|other| other.id != it.id && other.ordinal != it.ordinal);
    match beyond(&others, plan) {
        Some(other) => Err(already_subscribed(other, others.len()).at("/plan_id")),
        None => Ok(()),
    }
}

pub async fn approve(tx: &mut Transaction<'_>, it: Subscription) -> Result<Subscription, Refusal> {
    let status = it.status.approve()?;
    if let Some(terms) = plan::version_in(tx, it.plan_id, it.plan_version).await? {
        let offer = (it.product_id, it.environment);
        capabilities::refuse_unsupported_terms(tx, &terms, offer, "").await?;
    }
    turn(tx, it, status, None).await
}

pub async fn reject(
    tx: &mut Transaction<'_>,
    it: Subscription,
    reason: String,
) -> Result<Subscription, Refusal> {
    let status = it.status.reject()?;
    turn(tx, it, status, Some(reason)).await
}

pub async fn suspend(
    tx: &mut Transaction<'_>,
    it: Subscription,
    reason: String,
) -> Result<Subscription, Refusal> {
    let status = it.status.suspend()?;
    turn(tx, it, status, Some(reason)).await
}

pub async fn resume(tx: &mut Transaction<'_>, it: Subscription) -> Result<Subscription, Refusal> {
    let status = it.status.resume()?;
    turn(tx, it, status, Some(String::new())).await
}

pub async fn cancel(tx: &mut Transaction<'_>, it: Subscription) -> Result<Subscription, Refusal> {
    let status = it.status.cancel()?;
    turn(tx, it, status, None).await
}

/// Changes the state; `reason` replaces the former one if given.
async fn turn(
    tx: &mut Transaction<'_>,
    mut subscription: Subscription,
    status: SubscriptionStatus,
    reason: Option<String>,
) -> Result<Subscription, Refusal> {
    let now = tx.now.trunc_subsecs(6);
    subscription.status = status;
    subscription.reason = reason.unwrap_or(subscription.reason);
    if status == SubscriptionStatus::Active {
        subscription.activated_at.get_or_insert(now);
    }
    if !status.is_living() {
        subscription.plan_change = None;
    }
    if status == SubscriptionStatus::Cancelled {
        subscription.ends_at = Some(now);
    }
    tx.save(subscription).await
}

/// Product and environment: as named, or those of the publish that it is pinned to.
async fn target(
    tx: &mut Transaction<'_>,
    spec: &SubscriptionSpec,
) -> Result<(Product, Environment), Refusal> {
    let pinned = match spec.product_publish_id {
        Some(id) => Some(tx.refer::<ProductPublish>(id, "/product_publish_id").await?.spec),
        None => None,
    };
    let differs = |pointer: &str| {
        Err(Refusal::invalid(pointer, "conflict", "the publish has another one; leave this out"))
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
        return Err(Refusal::invalid("/product_id", "required", "name a product"));
    };
    let product = tx.refer::<Product>(product_id, "/product_id").await?;
    let hidden = tx.scope.customer().is_some() && product.spec.visibility != Visibility::Public;
    if hidden {
        return Err(Refusal::unknown_reference("/product_id", "product"));
    }
    Ok((product, environment))
}

async fn plan_of(
    tx: &mut Transaction<'_>,
    spec: &SubscriptionSpec,
    product: &Product,
) -> Result<Plan, Refusal> {
    let plan = tx.refer::<Plan>(spec.plan_id, "/plan_id").await?;
    if plan.product_id != product.id {
        let why = "this plan is another product's";
        return Err(Refusal::invalid("/plan_id", "unknown_reference", why));
    }
    on_sale("plan", plan.status)?;
    Ok(plan)
}

fn on_sale(noun: &str, status: CatalogStatus) -> Result<(), Refusal> {
    if status == CatalogStatus::Active {
        return Ok(());
    }
    let detail = format!("the {noun} is {}: no new subscriptions", status.as_str());
    Err(Refusal::conflict("not_on_sale", detail))
}
