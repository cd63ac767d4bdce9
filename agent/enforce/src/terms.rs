//! The terms under which a call is counted: enough to price it after publish, subscription and plan
//! are gone.

use std::sync::Arc;

/// Who pays for what. Ids are empty where not applicable, and all of them in counters that a former
/// release stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    pub tenant_id: Arc<str>,
    pub customer_id: Arc<str>,
    pub subscription_id: Arc<str>,
    pub plan_id: Arc<str>,
    /// The version of the plan's terms; 0 if the control plane did not send it.
    pub plan_version: u64,
    pub product_id: Arc<str>,
    pub environment: Arc<str>,
}

impl Terms {
    /// Whether it has more than the subscription.
    pub(crate) fn is_known(&self) -> bool {
        let Self { tenant_id, customer_id, plan_id, plan_version, product_id, environment, .. } =
            self;
        let texts = [tenant_id, customer_id, plan_id, product_id, environment];
        *plan_version != 0 || texts.iter().any(|text| !text.is_empty())
    }
}
