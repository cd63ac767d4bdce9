//! A consumer: a client app under a subscription. Usage is counted per consumer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Check, ClientAppId, ConsumerId, CustomerId, Meta, SubscriptionId, TenantId, Violations,
};

/// The writable fields of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    /// The subscription that entitles it.
    pub subscription_id: SubscriptionId,
    /// The app that calls; of the same customer, once per subscription.
    pub client_app_id: ClientAppId,
}

impl Check for ConsumerSpec {
    fn check(&self, _: &mut Violations) {}
}

/// A consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Consumer {
    /// The consumer's unique id.
    pub id: ConsumerId,
    /// The tenant of the API provider.
    pub tenant_id: TenantId,
    /// The customer of subscription and app.
    pub customer_id: CustomerId,
    #[serde(flatten)]
    pub spec: ConsumerSpec,
    #[serde(flatten)]
    pub meta: Meta,
}
