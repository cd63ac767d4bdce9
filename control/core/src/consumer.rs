//! A consumer: a client app under a subscription. Calls are counted by it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    Check, ClientAppId, ConsumerId, CustomerId, Meta, SubscriptionId, TenantId, Violations,
};

/// What a caller writes of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    /// What it may call.
    pub subscription_id: SubscriptionId,
    /// Who calls; of the same customer, once per subscription.
    pub client_app_id: ClientAppId,
}

impl Check for ConsumerSpec {
    fn check(&self, _: &mut Violations) {}
}

/// A consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Consumer {
    /// Its id.
    pub id: ConsumerId,
    /// The provider.
    pub tenant_id: TenantId,
    /// The customer.
    pub customer_id: CustomerId,
    /// What was written.
    #[serde(flatten)]
    pub spec: ConsumerSpec,
    /// Times and version.
    #[serde(flatten)]
    pub meta: Meta,
}
