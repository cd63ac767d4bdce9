//! Moves a subscription whose period has ended to the plan that it was to move to.

use chrono::{DateTime, Utc};
use imp_core::SubscriptionId;
use imp_core::plan::Plan;
use imp_core::product::CatalogStatus;
use imp_core::subscription::{PlanChange, Subscription};
use imp_store::Record as _;
use imp_store::job::NewJob;
use serde::{Deserialize, Serialize};

use super::{JobError, Outcome, Running};

pub const NAME: &str = "change_plan";

/// New fields need defaults, because another release may have written the row.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    subscription_id: SubscriptionId,
}

/// The job for a change that takes effect at this time.
pub fn job(id: SubscriptionId, at: DateTime<Utc>, now: DateTime<Utc>) -> NewJob {
    NewJob {
        kind: NAME,
        key: id.to_string(),
        payload: serde_json::json!(Payload { subscription_id: id }),
        due_at: at,
        created_at: now,
    }
}

/// The subscription holds the pending change and its time: it may have been cancelled since.
pub async fn run(it: Running) -> Result<Outcome, JobError> {
    let payload = serde_json::from_value::<Payload>(it.job.payload.clone());
    let id = payload.map_err(JobError::Payload)?.subscription_id;
    let found = Subscription::get(&it.operation.store, &it.operation.scope, id).await?;
    let Some(subscription) = found else { return Ok(Outcome::Done) };
    let Some(change) = subscription.plan_change else { return Ok(Outcome::Done) };
    if change.at > it.operation.now() {
        return Ok(Outcome::Again(change.at));
    }
    change_plan(&it, subscription, change).await?;
    Ok(Outcome::Done)
}

/// If the plan was closed or deleted since, the subscription stays where it is.
async fn change_plan(
    it: &Running,
    mut subscription: Subscription,
    change: PlanChange,
) -> Result<(), JobError> {
    let mut tx = it.begin().await?;
    tx.within(subscription.tenant_id)?;
    let scope = tx.scope;
    let plan = Plan::get_in(&mut tx, &scope, change.plan_id).await?;
    let there = plan.is_some_and(|plan| plan.status != CatalogStatus::Closed);
    let from = (subscription.plan_id, subscription.plan_version);
    subscription.plan_change = None;
    if there {
        subscription.plan_id = change.plan_id;
        subscription.plan_version = change.plan_version;
    }
    let subscription = tx.save(subscription).await?;
    let what = if there { "moved to" } else { "not moved to" };
    let detail = format!("{what} version {} of plan {}", change.plan_version, change.plan_id);
    let terms = |(id, version)| serde_json::json!({ "plan_id": id, "plan_version": version });
    let payload = serde_json::json!({
        "from": terms(from),
        "to": terms((subscription.plan_id, subscription.plan_version)),
        "product_id": subscription.product_id,
        "customer_id": subscription.customer_id,
    });
    let id = subscription.id.into();
    Ok(tx.finish_event("subscriptions.change_plan", id, detail, &payload).await?)
}
