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

/// What a caller writes of a subscription. It covers every publish of the product in the
/// environment; naming `product_publish_id` (the PRD's form) pins it to that one and makes
/// `product_id` and `environment` optional.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSpec {
    /// Who buys.
    pub customer_id: CustomerId,
    /// What.
    #[serde(default)]
    pub product_id: Option<ProductId>,
    /// Where in the product's life.
    #[serde(default)]
    pub environment: Option<Environment>,
    /// Only this publish.
    #[serde(default)]
    pub product_publish_id: Option<ProductPublishId>,
    /// On which plan of the product.
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
    /// Its id.
    pub id: SubscriptionId,
    /// The provider.
    pub tenant_id: TenantId,
    /// Who bought.
    pub customer_id: CustomerId,
    /// What.
    pub product_id: ProductId,
    /// Where in the product's life.
    pub environment: Environment,
    /// Only this publish, when set.
    pub product_publish_id: Option<ProductPublishId>,
    /// Which of the customer's living subscriptions to the product in the environment it is, from 0.
    /// Each counts for itself; one that is made after another has ended goes on with its counts.
    pub ordinal: i64,
    /// On which plan.
    pub plan_id: PlanId,
    /// The version of the plan's terms that it bought.
    pub plan_version: i64,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// Why it is suspended or rejected.
    pub reason: String,
    /// When a cancellation takes effect.
    pub ends_at: Option<DateTime<Utc>>,
    /// When it was first entitled. From then on it is in the books and cannot be deleted.
    pub activated_at: Option<DateTime<Utc>>,
    /// What it moves to at the period's end.
    pub plan_change: Option<PlanChange>,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}

/// A change to terms that give less of something: it waits for the end of the calendar month, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanChange {
    /// To which plan.
    pub plan_id: PlanId,
    /// To which version of its terms.
    pub plan_version: i64,
    /// When.
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
        /// Entitled.
        Active,
        /// Never entitled.
        Rejected,
        /// Not entitled for now.
        Suspended,
        /// Over.
        Cancelled,
    }
}

impl SubscriptionStatus {
    /// As in JSON.
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

    /// Whether it may still entitle: a customer has as many living subscriptions to a product in an
    /// environment as the plan allows.
    pub fn is_living(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Suspended | Self::Newer(_))
    }

    /// The provider agrees.
    pub fn approve(self) -> Result<Self, Transition> {
        self.step(&[Self::Pending], Self::Active)
    }

    /// The provider does not.
    pub fn reject(self) -> Result<Self, Transition> {
        self.step(&[Self::Pending], Self::Rejected)
    }

    /// Not entitled for now.
    pub fn suspend(self) -> Result<Self, Transition> {
        self.step(&[Self::Active], Self::Suspended)
    }

    /// Entitled again.
    pub fn resume(self) -> Result<Self, Transition> {
        self.step(&[Self::Suspended], Self::Active)
    }

    /// Over, at once.
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
