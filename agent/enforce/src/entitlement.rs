//! What a subscription may do, and how much of it is used.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imp_proto::config as pb;
use pb::entitlement::State;

use crate::account::{Account, Class};
use crate::limit::{Held, Limit, Spec};

#[derive(Debug)]
pub(crate) struct Entitlement {
    wire: pb::Entitlement,
    limits: Vec<Limit>,
    /// Keeps it from being forgotten.
    _account: Arc<Account>,
}

/// Why an entitlement does not let a call pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    NoSubscription,
    Suspended,
    WrongProduct,
    WrongEnvironment,
    /// Right product and environment, but pinned to another publish.
    WrongPublish,
}

impl Entitlement {
    /// Its limits count in the account, where those of another plan may have counted before.
    pub(crate) fn new(wire: &pb::Entitlement, account: Arc<Account>) -> Self {
        let plan: Vec<Spec> = wire.limits.iter().map(Spec::parse).collect();
        let classes = Class::of(&plan);
        let limit = |(spec, class): (Spec, Class)| Limit::on(spec, account.meters(class));
        let limits = plan.into_iter().zip(classes).map(limit).collect();
        Self { wire: wire.clone(), limits, _account: account }
    }

    /// What its calls count in. A control plane that does not say knows no other than the
    /// subscription.
    pub(crate) fn account(wire: &pb::Entitlement) -> &str {
        if wire.counter_key.is_empty() { &wire.id } else { &wire.counter_key }
    }

    pub(crate) fn customer_id(&self) -> &str {
        &self.wire.customer_id
    }

    pub(crate) fn plan_id(&self) -> &str {
        &self.wire.plan_id
    }

    /// Why it is suspended, in the provider's words.
    pub(crate) fn reason(&self) -> Option<&str> {
        Some(self.wire.reason.as_str()).filter(|reason| !reason.is_empty())
    }

    /// Whether it covers a publish now.
    pub(crate) fn covers(
        &self,
        publish: &crate::PublishAccess,
        now: DateTime<Utc>,
    ) -> Result<(), Gap> {
        let entitled = &self.wire;
        let over = entitled.expires_at_ms != 0 && now.timestamp_millis() >= entitled.expires_at_ms;
        match entitled.state() {
            State::Active if !over => {}
            State::Suspended if !over => return Err(Gap::Suspended),
            _ => return Err(Gap::NoSubscription),
        }
        if entitled.tenant_id != publish.tenant_id || entitled.product_id != publish.product_id {
            return Err(Gap::WrongProduct);
        }
        if entitled.environment != publish.environment {
            return Err(Gap::WrongEnvironment);
        }
        let pin = entitled.product_publish_id.as_str();
        if pin.is_empty() || pin == publish.publish_id { Ok(()) } else { Err(Gap::WrongPublish) }
    }

    pub(crate) fn held(&self, consumer: &Arc<str>) -> impl Iterator<Item = Held<'_>> {
        self.limits.iter().map(move |limit| limit.held(consumer))
    }
}
