//! `/v1/subscriptions`: a customer's right to call a product.

use imp_core::check::{Check, Violations};
use imp_core::grammar;
use imp_core::role::Action;
use imp_core::subscription::{Subscription, SubscriptionSpec, SubscriptionStatus};
use imp_core::{CustomerId, PlanId, ProductId};
use imp_store::subscription::SubscriptionFilter;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::flows::{Created, subscription as flow};
use crate::operation::Transaction;
use crate::problem::Problem;
use crate::refusal::Refusal;
use crate::rest::actions::act;
use crate::rest::body::Json;
use crate::rest::call::Call;
use crate::rest::crud;
use crate::rest::entity::Entity;
use crate::rest::param::{Param, TENANT};
use crate::rest::query::Query;
use crate::rest::routes::Routes;

impl Entity for Subscription {
    type Spec = SubscriptionSpec;
    type View = Self;

    const IMMUTABLE: &'static [&'static str] =
        &["customer_id", "product_id", "environment", "product_publish_id"];
    /// Customers cancel; usage stays on record.
    const DELETING: Action = Action::Decide;
    const FILTERS: &'static [Param] = &[
        TENANT,
        Param::of::<CustomerId>("customer_id"),
        Param::of::<ProductId>("product_id"),
        Param::of::<PlanId>("plan_id"),
        Param::of::<SubscriptionStatus>("status"),
    ];

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

    async fn create(call: &Call, mut body: Json) -> Result<Created<Self>, Problem> {
        let scope = call.within(body.take_tenant()?)?;
        let spec = body.into_spec()?;
        Ok(flow::create(&call.operation, scope, spec).await?.into())
    }

    async fn edit(
        tx: &mut Transaction<'_>,
        current: Self,
        spec: SubscriptionSpec,
    ) -> Result<Self, Refusal> {
        flow::change_plan(tx, current, spec).await
    }

    async fn remove(tx: &mut Transaction<'_>, current: Self) -> Result<(), Refusal> {
        flow::delete(tx, current).await
    }
}

/// The reason for an action.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Shown to the customer.
    #[schema(example = "unpaid invoice")]
    pub reason: String,
}

impl From<Reason> for String {
    fn from(body: Reason) -> Self {
        body.reason
    }
}

impl Check for Reason {
    fn check(&self, v: &mut Violations) {
        v.take("reason", grammar::text(&self.reason, 1000));
        if self.reason.trim().is_empty() {
            v.add("reason", "required", "say why");
        }
    }
}

pub fn mount(routes: &mut Routes) {
    crud::mount::<Subscription>(routes);
    act!(routes, Subscription, Action::Decide, "approve", flow::approve);
    act!(routes, Subscription, Action::Decide, "reject", flow::reject, body = Reason);
    act!(routes, Subscription, Action::Decide, "suspend", flow::suspend, body = Reason, tightens);
    act!(routes, Subscription, Action::Decide, "resume", flow::resume);
    act!(routes, Subscription, Action::Write, "cancel", flow::cancel, tightens);
    act!(
        routes,
        Subscription,
        Action::Write,
        "move-to-current-plan-version",
        flow::move_to_current
    );
    act!(routes, Subscription, Action::Write, "keep-plan", flow::keep_plan);
}
