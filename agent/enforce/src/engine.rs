//! The engine: what it holds and how it decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use imp_proto::config as pb;

use crate::access::{Access, AuthMode, PublishAccess};
use crate::decision::{Admission, Call, Decision, Denial};
use crate::entitlement::Entitlement;
use crate::keys::{Credential, Keys};
use crate::limit::{self, Held};
use crate::quota;
use crate::usage::{Counter, QuotaRow, Snapshot, Usage};

/// All that a door needs. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    publishes: DashMap<String, Arc<Access>>,
    entitlements: DashMap<String, Arc<Entitlement>>,
    keys: Keys,
    usage: Usage,
    /// Quotas of subscriptions that have no entitlement here: from before a restart, or of one that
    /// went. They go on when it comes (again), so that nobody gets the month twice by that.
    /// Locked after `entitlements`, never before.
    resumed: DashMap<String, Vec<QuotaRow>>,
}

/// Who calls.
struct Caller {
    credential: Arc<Credential>,
    entitlement: Arc<Entitlement>,
}

impl Engine {
    /// Knows nothing: refuses everyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a publish. Counts of unchanged rates go on.
    pub fn put_publish(&self, publish: PublishAccess) {
        match self.inner.publishes.entry(publish.publish_id.clone()) {
            Entry::Occupied(mut slot) => {
                let next = Access::new(publish, Some(slot.get()));
                slot.insert(Arc::new(next));
            }
            Entry::Vacant(slot) => {
                slot.insert(Arc::new(Access::new(publish, None)));
            }
        }
    }

    /// From now on its calls are refused.
    pub fn remove_publish(&self, id: &str) {
        self.inner.publishes.remove(id);
    }

    /// Adds or replaces what a subscription may do. Counts of unchanged limits go on.
    pub fn put_entitlement(&self, entitlement: &pb::Entitlement) {
        match self.inner.entitlements.entry(entitlement.id.clone()) {
            Entry::Occupied(mut slot) => {
                let next = Entitlement::new(entitlement, Some(slot.get()));
                slot.insert(Arc::new(next));
            }
            Entry::Vacant(slot) => {
                let mut next = Entitlement::new(entitlement, None);
                if let Some((_, rows)) = self.inner.resumed.remove(&entitlement.id) {
                    next.resume(&rows);
                }
                slot.insert(Arc::new(next));
            }
        }
    }

    /// From now on its consumers are refused.
    pub fn remove_entitlement(&self, id: &str) {
        if let Entry::Occupied(slot) = self.inner.entitlements.entry(id.to_owned()) {
            let rows = slot.get().latest_quotas();
            if !rows.is_empty() {
                self.inner.resumed.insert(id.to_owned(), rows);
            }
            slot.remove();
        }
    }

    /// Adds or replaces a key.
    pub fn put_credential(&self, credential: &pb::Credential) {
        self.inner.keys.put(credential);
    }

    /// From now on the key is refused.
    pub fn remove_credential(&self, id: &str) {
        self.inner.keys.remove(id);
    }

    /// Decides about one call and counts it.
    pub fn decide(&self, call: &Call<'_>) -> Decision {
        match self.admit(call) {
            Ok(admission) => Decision::Allow(admission),
            Err(denial) => Decision::Deny(denial),
        }
    }

    fn admit(&self, call: &Call<'_>) -> Result<Admission, Denial> {
        let access = self.inner.publishes.get(call.publish_id).map(|access| access.clone());
        let access = access.ok_or_else(Denial::unknown_publish)?;
        if access.publish.suspended {
            return Err(Denial::publish_suspended());
        }
        let caller = match access.publish.auth_mode {
            AuthMode::None => None,
            AuthMode::ApiKey => Some(self.authenticate(call, &access)?),
            AuthMode::Unsupported => return Err(Denial::unsupported_auth_mode()),
        };
        self.within_limits(call, &access, caller.as_ref())
    }

    fn authenticate(&self, call: &Call<'_>, access: &Access) -> Result<Caller, Denial> {
        let credential = self
            .inner
            .keys
            .find(call.api_key, call.duplicate_key, call.now)
            .map_err(Denial::unauthenticated)?;
        let entitlement = self.inner.entitlements.get(credential.subscription_id.as_ref());
        let entitlement = entitlement.map(|entitlement| entitlement.clone());
        let entitlement = entitlement.ok_or_else(Denial::no_subscription)?;
        entitlement
            .covers(&access.publish, call.now)
            .map_err(|gap| Denial::not_entitled(gap, entitlement.reason()))?;
        Ok(Caller { credential, entitlement })
    }

    fn within_limits(
        &self,
        call: &Call<'_>,
        access: &Access,
        caller: Option<&Caller>,
    ) -> Result<Admission, Denial> {
        let nobody: Arc<str> = "".into();
        let (subscription, consumer) = match caller {
            Some(caller) => (&caller.credential.subscription_id, &caller.credential.consumer_id),
            None => (&nobody, &nobody),
        };
        let plan = caller.into_iter().flat_map(|caller| caller.entitlement.held(consumer));
        let route = access.limit(call.route_id).map(|limit| limit.held(consumer));
        let held: Vec<Held<'_>> = plan.chain(route).collect();
        let taken = limit::take_all(&held, call.now);
        self.inner.usage.count((&access.id, subscription, consumer), call.now, taken.is_ok());
        let reports = taken.map_err(Denial::limited)?;
        Ok(Admission {
            identity: caller.map(identity).unwrap_or_default(),
            response_headers: limit::headers(&reports),
        })
    }

    /// The counters that changed after `since`, and the mark to ask with next time. 0: all.
    pub fn usage_changed_since(&self, since: u64) -> (u64, Vec<Counter>) {
        self.inner.usage.changed_since(since)
    }

    /// Forgets counters of hours that ended before `before`. The caller knows that they are
    /// committed elsewhere.
    pub fn forget_usage(&self, before: DateTime<Utc>) {
        self.inner.usage.forget(before);
    }

    /// Frees limits of consumers that are full again, and quotas of subscriptions that did not come
    /// back in their window. Costs a walk over all of them: once a minute.
    pub fn evict_idle(&self, now: DateTime<Utc>) {
        for entitlement in &self.inner.entitlements {
            entitlement.evict_idle(now);
        }
        self.inner.resumed.retain(|_, rows| {
            rows.retain(|row| quota::is_running(row.window, now));
            !rows.is_empty()
        });
    }

    /// What must survive a restart.
    pub fn snapshot(&self, now: DateTime<Utc>) -> Snapshot {
        let (_, counters) = self.usage_changed_since(0);
        let live = self.inner.entitlements.iter().flat_map(|entry| entry.quotas(now));
        let mut quotas: Vec<QuotaRow> = live.collect();
        // Not taken up yet, so still true.
        let waiting = self.inner.resumed.iter().flat_map(|rows| rows.value().clone());
        quotas.extend(waiting.filter(|row| quota::is_running(row.window, now)));
        Snapshot { counters, quotas }
    }

    /// Continues from a snapshot; before the first entitlement.
    pub fn restore(&self, snapshot: Snapshot) {
        self.inner.usage.restore(snapshot.counters);
        for row in snapshot.quotas {
            self.inner.resumed.entry(row.subscription_id.clone()).or_default().push(row);
        }
    }
}

fn identity(caller: &Caller) -> Vec<(&'static str, String)> {
    vec![
        ("x-imp-consumer", caller.credential.consumer_id.to_string()),
        ("x-imp-subscription", caller.credential.subscription_id.to_string()),
        ("x-imp-customer", caller.entitlement.customer_id().to_owned()),
        ("x-imp-plan", caller.entitlement.plan_id().to_owned()),
    ]
}
