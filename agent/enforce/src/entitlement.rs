//! What a subscription may do, and how much of it is used.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imp_proto::config as pb;
use pb::entitlement::State;

use crate::limit::{Held, HolderCount, Limit, Spec};
use crate::usage::QuotaRow;

#[derive(Debug)]
pub(crate) struct Entitlement {
    wire: pb::Entitlement,
    limits: Vec<Limit>,
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
    /// Takes over the state of limits that mean the same as before.
    pub(crate) fn new(wire: &pb::Entitlement, before: Option<&Self>) -> Self {
        let limit = |limit: &pb::Limit| {
            let spec = Spec::parse(limit);
            let old = before.and_then(|b| b.limits.iter().find(|old| old.continues(&spec)));
            Limit::new(spec, old)
        };
        let limits = wire.limits.iter().map(limit).collect();
        Self { wire: wire.clone(), limits }
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

    pub(crate) fn evict_idle(&self, now: DateTime<Utc>) {
        self.limits.iter().for_each(|limit| limit.evict_idle(now));
    }

    /// The quotas of windows that run now.
    pub(crate) fn quotas(&self, now: DateTime<Utc>) -> Vec<QuotaRow> {
        self.rows(|limit| limit.counts(now))
    }

    /// The quotas of the windows of their last calls, which may be over.
    pub(crate) fn latest_quotas(&self) -> Vec<QuotaRow> {
        self.rows(Limit::latest_counts)
    }

    fn rows(&self, counts: impl Fn(&Limit) -> Vec<HolderCount>) -> Vec<QuotaRow> {
        let row = |limit: &Limit, (consumer, window, used): HolderCount| QuotaRow {
            subscription_id: self.wire.id.clone(),
            consumer_id: consumer.map(|consumer| consumer.to_string()),
            limit: limit.spec.name.clone(),
            window,
            used,
        };
        let rows = self
            .limits
            .iter()
            .flat_map(|limit| counts(limit).into_iter().map(move |count| row(limit, count)));
        rows.collect()
    }

    /// Continues counts from before a restart.
    pub(crate) fn resume(&mut self, rows: &[QuotaRow]) {
        for row in rows {
            let named = |limit: &&mut Limit| limit.spec.name == row.limit;
            let quotas = self.limits.iter_mut().filter(|limit| limit.spec.calendar().is_some());
            for limit in quotas.into_iter().filter(named) {
                limit.resume(row.consumer_id.as_deref(), row.window, row.used);
            }
        }
    }
}
