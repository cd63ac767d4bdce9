//! A subscription: a customer's right to call a product in an environment, on a version of a plan.

use chrono::{DateTime, Datelike as _, Months, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::product_publish::Environment;
use crate::stored::states;
use crate::{
    Check, CustomerId, Meta, PlanId, ProductId, ProductPublishId, SubscriptionId, TenantId,
    Transition, Violations,
};

/// The writable fields of a subscription. It covers every publish of the product in the
/// environment; `product_publish_id` pins it to one publish and makes `product_id` and
/// `environment` optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSpec {
    /// The customer that buys.
    pub customer_id: CustomerId,
    /// The product to call.
    #[serde(default)]
    pub product_id: Option<ProductId>,
    /// The environment to call it in.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// The only publish to cover.
    #[serde(default)]
    pub product_publish_id: Option<ProductPublishId>,
    /// The plan, one of the product's.
    pub plan_id: PlanId,
}

impl Check for SubscriptionSpec {
    fn check(&self, v: &mut Violations) {
        if self.product_publish_id.is_none() {
            if self.product_id.is_none() {
                v.add(
                    "product_id",
                    "required",
                    "name a product, or pin the subscription by product_publish_id",
                );
            }
            if self.environment.is_none() {
                v.add("environment", "required", "dev, staging or prod");
            }
        }
    }
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subscription {
    /// The subscription's unique id.
    pub id: SubscriptionId,
    /// The tenant of the API provider.
    pub tenant_id: TenantId,
    /// The customer that bought it.
    pub customer_id: CustomerId,
    /// The product that it covers.
    pub product_id: ProductId,
    /// The environment that it covers.
    pub environment: Environment,
    /// The only publish that it covers, if it is pinned.
    pub product_publish_id: Option<ProductPublishId>,
    /// Numbers the customer's living subscriptions to the product in the environment, from 0. Each
    /// counts usage separately; one that is made after another has ended continues its counters.
    pub ordinal: i64,
    /// The current plan.
    pub plan_id: PlanId,
    /// The version of the plan's terms.
    pub plan_version: i64,
    /// Its state in the life cycle.
    pub status: SubscriptionStatus,
    /// Why it is suspended or rejected.
    pub reason: String,
    /// When a cancellation takes effect.
    pub ends_at: Option<DateTime<Utc>>,
    /// When it was first active. From then on it is kept as a record and cannot be deleted.
    pub activated_at: Option<DateTime<Utc>>,
    /// The change that takes effect at the end of the period.
    pub plan_change: Option<PlanChange>,
    #[serde(flatten)]
    pub meta: Meta,
}

/// A change to terms that give less of something: it takes effect at the end of the calendar month,
/// UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanChange {
    /// The new plan.
    pub plan_id: PlanId,
    /// The version of the new plan's terms.
    pub plan_version: i64,
    /// When it takes effect.
    pub at: DateTime<Utc>,
}

/// The end of the calendar month that `now` is in, UTC.
pub fn period_end(now: DateTime<Utc>) -> DateTime<Utc> {
    let first = now.date_naive().with_day(1);
    let next = first.and_then(|first| first.checked_add_months(Months::new(1)));
    next.map_or(now, |next| next.and_time(NaiveTime::MIN).and_utc())
}

states! {
    /// pending -> active | rejected; active <-> suspended; active -> cancelled.
    pub enum SubscriptionStatus {
        /// Waits for approval.
        Pending,
        /// Entitles its consumers.
        Active,
        /// Rejected; final.
        Rejected,
        /// Temporarily not entitled.
        Suspended,
        /// Cancelled; final.
        Cancelled,
    }
}

impl SubscriptionStatus {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Newer(word) => word.as_str(),
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Suspended => "suspended",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it may still entitle. A plan limits how many living subscriptions to a product in an
    /// environment a customer may have.
    pub fn is_living(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Suspended | Self::Newer(_))
    }

    /// The provider approves it.
    pub fn approve(self) -> Result<Self, Transition> {
        self.step(&[Self::Pending], Self::Active)
    }

    /// The provider rejects it.
    pub fn reject(self) -> Result<Self, Transition> {
        self.step(&[Self::Pending], Self::Rejected)
    }

    /// Suspends it.
    pub fn suspend(self) -> Result<Self, Transition> {
        self.step(&[Self::Active], Self::Suspended)
    }

    /// Resumes it.
    pub fn resume(self) -> Result<Self, Transition> {
        self.step(&[Self::Suspended], Self::Active)
    }

    /// Cancels it at once.
    pub fn cancel(self) -> Result<Self, Transition> {
        self.step(&[Self::Pending, Self::Active, Self::Suspended], Self::Cancelled)
    }

    fn step(self, from: &[Self], to: Self) -> Result<Self, Transition> {
        let refused = Transition { kind: "subscription", from: self.as_str(), to: to.as_str() };
        if from.contains(&self) { Ok(to) } else { Err(refused) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_period_ends_with_the_month() {
        let end = |now: &str| period_end(now.parse().unwrap()).to_rfc3339();
        assert_eq!(end("2026-11-01T00:00:00Z"), "2026-12-01T00:00:00+00:00");
        assert_eq!(end("2026-12-31T23:59:59.9Z"), "2027-01-01T00:00:00+00:00");
        assert_eq!(end("2028-02-29T12:00:00Z"), "2028-03-01T00:00:00+00:00");
    }
}
