//! Under which terms a call is counted: what its price can be found by when publish, subscription and
//! plan are gone.

use std::sync::Arc;

use crate::access::PublishAccess;

/// Who pays for what. Ids are empty where there is none, and all of them when nothing is known: in
/// counters that a former release kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    /// The provider.
    pub tenant_id: Arc<str>,
    /// Who bought it.
    pub customer_id: Arc<str>,
    /// The subscription.
    pub subscription_id: Arc<str>,
    /// Its plan.
    pub plan_id: Arc<str>,
    /// The version of the plan; 0: the control plane did not say.
    pub plan_version: u64,
    /// What was bought.
    pub product_id: Arc<str>,
    /// Where.
    pub environment: Arc<str>,
}

impl Terms {
    /// Of calls to a public publish: nobody bought anything.
    pub(crate) fn public(publish: &PublishAccess) -> Self {
        Self {
            tenant_id: publish.tenant_id.as_str().into(),
            product_id: publish.product_id.as_str().into(),
            environment: publish.environment.as_str().into(),
            ..Self::default()
        }
    }

    /// Whether it says more than the subscription.
    pub(crate) fn is_known(&self) -> bool {
        let Self { tenant_id, customer_id, plan_id, plan_version, product_id, environment, .. } =
            self;
        let texts = [tenant_id, customer_id, plan_id, product_id, environment];
        *plan_version != 0 || texts.iter().any(|text| !text.is_empty())
    }
}
