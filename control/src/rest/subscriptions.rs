//! `/v1/subscriptions`: a customer's right to call a product.

use imp_core::check::{Check, Violations};
use imp_core::customer::Customer;
use imp_core::role::{Action, Kind};
use imp_core::subscription::{Subscription, SubscriptionSpec};
use imp_core::{SubscriptionId, grammar};
use imp_store::subscription::SubscriptionFilter;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::flows::{Write, subscription as flow};
use crate::problem::Problem;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::{Entity, Made, stored};
use crate::rest::query::Query;
use crate::rest::routes::Routes;
use crate::state::State;

stored!(Subscription, subscription, SubscriptionId, SubscriptionFilter);

impl Entity for Subscription {
    type Spec = SubscriptionSpec;
    type View = Self;

    const KIND: Kind = Kind::Subscription;
    const PATH: &'static str = "subscriptions";
    const NOUN: &'static str = "subscription";
    const IMMUTABLE: &'static [&'static str] =
        &["customer_id", "product_id", "environment", "product_publish_id"];
    /// Customers cancel; nothing that was used disappears.
    const DELETING: Action = Action::Decide;
    const FILTERS: &'static [&'static str] =
        &["tenant_id", "customer_id", "product_id", "plan_id", "status"];

    fn spec(&self) -> SubscriptionSpec {
        SubscriptionSpec {
            customer_id: self.customer_id,
            product_id: Some(self.product_id),
            environment: Some(self.environment),
            product_publish_id: self.product_publish_id,
            plan_id: self.plan_id,
        }
    }

    fn filter(query: &mut Query) -> Result<SubscriptionFilter, Problem> {
        Ok(SubscriptionFilter {
            customer_id: query.take("customer_id")?,
            product_id: query.take("product_id")?,
            plan_id: query.take("plan_id")?,
            status: query.take("status")?,
            ..SubscriptionFilter::default()
        })
    }

    async fn create(call: &Call, mut body: Json) -> Result<Made<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec: SubscriptionSpec = body.into_spec()?;
        let mut write = Write::begin(call, scope).await?;
        let customer: Customer = write.refer(spec.customer_id, "/customer_id").await?;
        write.within(customer.tenant_id)?;
        let subscription = flow::create(&mut write, &customer, spec).await?;
        write.finish::<Self>("create", subscription.id).await?;
        Ok(subscription.into())
    }

    async fn edit(
        write: &mut Write<'_>,
        current: Self,
        spec: SubscriptionSpec,
    ) -> Result<Self, Problem> {
        write.within(current.tenant_id)?;
        flow::change_plan(write, current, spec).await
    }

    async fn remove(write: &mut Write<'_>, current: Self) -> Result<(), Problem> {
        flow::delete(write, current).await
    }

    async fn views(_: &State, items: Vec<Self>) -> Result<Vec<Self>, Problem> {
        Ok(items)
    }
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Shown to the customer.
    #[schema(example = "unpaid invoice")]
    pub reason: String,
}

impl Check for Reason {
    fn check(&self, v: &mut Violations) {
        v.take("reason", grammar::text(&self.reason, 1000));
        if self.reason.trim().is_empty() {
            v.add("reason", "required", "say why");
        }
    }
}

async fn approve(write: &mut Write<'_>, it: Subscription) -> Result<Subscription, Problem> {
    let status = it.status.approve()?;
    flow::turn(write, it, status, None).await
}

async fn reject(
    write: &mut Write<'_>,
    it: Subscription,
    why: Reason,
) -> Result<Subscription, Problem> {
    let status = it.status.reject()?;
    flow::turn(write, it, status, Some(why.reason)).await
}

async fn suspend(
    write: &mut Write<'_>,
    it: Subscription,
    why: Reason,
) -> Result<Subscription, Problem> {
    let status = it.status.suspend()?;
    flow::turn(write, it, status, Some(why.reason)).await
}

async fn resume(write: &mut Write<'_>, it: Subscription) -> Result<Subscription, Problem> {
    let status = it.status.resume()?;
    flow::turn(write, it, status, Some(String::new())).await
}

async fn cancel(write: &mut Write<'_>, it: Subscription) -> Result<Subscription, Problem> {
    let status = it.status.cancel()?;
    flow::turn(write, it, status, None).await
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Subscription>(routes);
    act!(routes, Subscription, Action::Decide, "approve", approve);
    act!(routes, Subscription, Action::Decide, "reject", reject, body = Reason);
    act!(routes, Subscription, Action::Decide, "suspend", suspend, body = Reason);
    act!(routes, Subscription, Action::Decide, "resume", resume);
    act!(routes, Subscription, Action::Write, "cancel", cancel);
    act!(
        routes,
        Subscription,
        Action::Write,
        "move-to-current-plan-version",
        flow::move_to_current
    );
    act!(routes, Subscription, Action::Write, "keep-plan", flow::keep_plan);
}
