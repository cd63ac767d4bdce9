//! The terms under which a call is counted: enough to price it after publish, subscription and plan
//! are gone.

use std::sync::Arc;

use crate::id::Id;

/// Who pays for what. Ids are empty where not applicable, and all of them in counters that a former
/// release stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    pub tenant_id: Id,
    pub customer_id: Id,
    pub subscription_id: Id,
    pub plan_id: Id,
    /// The version of the plan's terms; 0 if the control plane did not send it.
    pub plan_version: u64,
    pub product_id: Id,
    pub environment: Arc<str>,
}

impl Terms {
    /// Whether it has more than the subscription.
    pub(crate) fn is_known(&self) -> bool {
        let Self { tenant_id, customer_id, plan_id, plan_version, product_id, environment, .. } =
            self;
        let ids = [tenant_id, customer_id, plan_id, product_id];
        *plan_version != 0 || !environment.is_empty() || ids.iter().any(|id| !id.is_empty())
    }
}
