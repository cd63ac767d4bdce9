//! The engine: what it holds and how it decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use imp_proto::config as pb;

use crate::access::{Access, AuthMode, PublishAccess};
use crate::account::{Account, Home};
use crate::decision::{Admission, Call, Decision, Denial};
use crate::entitlement::Entitlement;
use crate::keys::{Credential, Keys};
use crate::ledger::{Ledger, Pair};
use crate::limit::{self, Held};
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
    /// What customers have used, by counter key: also from before a restart, and of subscriptions
    /// that went, so that nobody gets the month twice by that.
    accounts: DashMap<String, Arc<Account>>,
    /// Where counts are kept; None: nowhere.
    ledger: Option<Arc<dyn Ledger>>,
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

    /// Knows nothing, and keeps its counts there.
    pub fn kept_in(ledger: Arc<dyn Ledger>) -> Self {
        let usage = Usage::kept_in(ledger.clone());
        let inner = Inner { usage, ledger: Some(ledger), ..Inner::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Adds or replaces a publish. Counts of unchanged rates go on.
    pub fn put_publish(&self, publish: PublishAccess) {
        let ledger = self.inner.ledger.as_ref();
        match self.inner.publishes.entry(publish.publish_id.clone()) {
            Entry::Occupied(mut slot) => {
                let next = Access::new(publish, Some(slot.get()), ledger);
                slot.insert(Arc::new(next));
            }
            Entry::Vacant(slot) => {
                slot.insert(Arc::new(Access::new(publish, None, ledger)));
            }
        }
    }

    /// From now on its calls are refused.
    pub fn remove_publish(&self, id: &str) {
        self.inner.publishes.remove(id);
    }

    /// Adds or replaces what a subscription may do. Counts belong to its account and go on.
    pub fn put_entitlement(&self, entitlement: &pb::Entitlement) {
        let account = self.account(Entitlement::account(entitlement));
        let next = Arc::new(Entitlement::new(entitlement, account));
        self.inner.entitlements.insert(entitlement.id.clone(), next);
    }

    /// From now on its consumers are refused. What they used is remembered.
    pub fn remove_entitlement(&self, id: &str) {
        self.inner.entitlements.remove(id);
    }

    fn account(&self, key: &str) -> Arc<Account> {
        let home = self.inner.ledger.as_ref().map(|ledger| Home::new(ledger, key));
        let fresh = || Arc::new(Account::kept_in(home));
        self.inner.accounts.entry(key.to_owned()).or_insert_with(fresh).clone()
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
        // Of another gateway's publish such an Envoy is told no more than of one that isn't there.
        let own = |access: &Arc<Access>| {
            call.gateway_id.is_none_or(|gateway| gateway == access.publish.gateway_id)
        };
        let access = access.filter(own).ok_or_else(Denial::unknown_publish)?;
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

    /// These counters are known elsewhere now.
    pub fn usage_committed(&self, counters: &[Counter]) {
        self.inner.usage.committed(counters);
    }

    /// Starts the counters again at what was not committed, so that nothing is told twice.
    pub fn rebase_usage(&self) {
        self.inner.usage.rebase();
    }

    /// Brings every count to the ledger, also what it had no room for before.
    pub fn keep_all(&self) {
        self.inner.usage.keep_all();
        self.inner.accounts.iter().for_each(|account| account.keep_all());
        self.inner.publishes.iter().for_each(|access| access.keep_all());
    }

    /// Continues counters that were kept, each with what of it is known elsewhere.
    pub fn resume_usage(&self, counters: Vec<(Counter, Pair)>) {
        self.inner.usage.restore(counters);
    }

    /// Forgets counters of hours that ended before `before`. The caller knows that they are
    /// committed elsewhere.
    pub fn forget_usage(&self, before: DateTime<Utc>) {
        self.inner.usage.forget(before);
    }

    /// Forgets what is as good as new: limits of consumers that are full again, and accounts that no
    /// subscription is on. Costs a walk over all of them: once a minute.
    pub fn evict_idle(&self, now: DateTime<Utc>) {
        self.inner.accounts.retain(|_, account| {
            account.evict_idle(now);
            !account.is_empty() || Arc::strong_count(account) > 1
        });
    }

    /// What must survive a restart.
    pub fn snapshot(&self, now: DateTime<Utc>) -> Snapshot {
        let (_, counters) = self.usage_changed_since(0);
        let rows = self.inner.accounts.iter().flat_map(|of| of.value().quotas(of.key(), now));
        let mut quotas: Vec<QuotaRow> = rows.collect();
        quotas.sort();
        Snapshot { counters, quotas }
    }

    /// Continues from a snapshot; before the first entitlement.
    pub fn restore(&self, snapshot: Snapshot) {
        let counters = snapshot.counters.into_iter().map(|counter| (counter, [0, 0]));
        self.inner.usage.restore(counters.collect());
        for row in snapshot.quotas {
            self.account(&row.account).resume(&row);
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
