//! The engine: what it holds and how it decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::access::{AuthMode, PublishAccess};
use crate::account::{Account, Home};
use crate::call::Call;
use crate::decision::{Admission, Denial};
use crate::entitlement::{Entitled, Entitlement};
use crate::keys::{Credential, Keys};
use crate::ledger::{Ledger, Pair};
use crate::limit::{self, Held};
use crate::permit::Permit;
use crate::rules::{Access, Rules};
use crate::usage::{Counter, QuotaRow, Snapshot, Usage};

/// All that a door needs. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    publishes: DashMap<String, Arc<Rules>>,
    entitlements: DashMap<String, Arc<Entitled>>,
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
    entitlement: Arc<Entitled>,
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

    /// Adds or replaces a publish, which has these rules and no other. Counts of unchanged rates go on.
    pub fn put_publish(&self, access: PublishAccess) {
        self.put_rules(access, []);
    }

    /// The same while some Envoy may still run routes of revisions with other rules, the ones to keep
    /// first: each call is judged by the rules that its route names. More than
    /// [`FORMER_RULES`](crate::FORMER_RULES) are not held. Whether the publish is suspended, the wanted
    /// rules say alone.
    pub fn put_rules(
        &self,
        wanted: PublishAccess,
        former: impl IntoIterator<Item = PublishAccess>,
    ) {
        let ledger = self.inner.ledger.as_ref();
        match self.inner.publishes.entry(wanted.publish_id.clone()) {
            Entry::Occupied(mut slot) => {
                let next = Rules::new(wanted, former, Some(slot.get()), ledger);
                slot.insert(Arc::new(next));
            }
            Entry::Vacant(slot) => {
                slot.insert(Arc::new(Rules::new(wanted, former, None, ledger)));
            }
        }
    }

    /// From now on its calls are refused.
    pub fn remove_publish(&self, id: &str) {
        self.inner.publishes.remove(id);
    }

    /// Adds or replaces what a subscription may do. Counts belong to its account and go on.
    pub fn put_entitlement(&self, entitlement: Entitlement) {
        let account = self.account(entitlement.counter_key());
        let id = entitlement.id().to_owned();
        self.inner.entitlements.insert(id, Arc::new(Entitled::new(entitlement, account)));
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
    pub fn put_credential(&self, credential: Credential) {
        self.inner.keys.put(credential);
    }

    /// From now on the key is refused.
    pub fn remove_credential(&self, id: &str) {
        self.inner.keys.remove(id);
    }

    /// Decides about one call and counts it. The permit is to be finished when the call is over.
    pub fn decide(&self, call: &Call<'_>) -> Result<Permit, Denial> {
        let rules = self.inner.publishes.get(call.publish_id).map(|rules| rules.clone());
        let rules = rules.ok_or_else(Denial::unknown_publish)?;
        let judges = rules.named(call.access);
        // Of another gateway's publish such an Envoy is told no more than of one that isn't there.
        if !judges.iter().all(|access| access.is_on(call.gateway_id)) {
            return Err(Denial::unknown_publish());
        }
        if rules.suspended {
            return Err(Denial::publish_suspended());
        }
        let mut caller = None;
        let asks = AuthMode::of_digest(call.access);
        for access in judges {
            caller = self.identify(call, access, asks)?.or(caller);
        }
        self.within_limits(call, judges, caller.as_ref())
    }

    /// Who calls; None: neither these rules nor the route ask.
    fn identify(
        &self,
        call: &Call<'_>,
        access: &Access,
        asks: AuthMode,
    ) -> Result<Option<Caller>, Denial> {
        match access.publish.auth_mode.or_stricter(asks) {
            AuthMode::None => Ok(None),
            AuthMode::ApiKey => self.authenticate(call, access).map(Some),
            AuthMode::Unsupported => Err(Denial::unsupported_auth_mode()),
        }
    }

    fn authenticate(&self, call: &Call<'_>, access: &Access) -> Result<Caller, Denial> {
        let found = self.inner.keys.find(call.credential, call.now);
        let credential = found.map_err(Denial::unauthenticated)?;
        let entitlement = self.inner.entitlements.get(credential.subscription_id());
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
        judges: &[Arc<Access>],
        caller: Option<&Caller>,
    ) -> Result<Permit, Denial> {
        // There is always one: that of the wanted revision.
        let first = judges.first().ok_or_else(Denial::unknown_publish)?;
        let (terms, consumer) = match caller {
            Some(caller) => (caller.entitlement.terms(), caller.credential.consumer_id()),
            None => (&first.public, &first.nobody),
        };
        let plan = caller.into_iter().flat_map(|caller| caller.entitlement.held(consumer));
        let mut held: Vec<Held<'_>> = plan.collect();
        for limit in judges.iter().filter_map(|access| access.limit(call.route_id)) {
            // Rules that have a rate in common take one call of it.
            limit.held(consumer).add_to(&mut held);
        }
        let taken = limit::take_all(&held, call.now);
        self.inner.usage.count((&first.id, terms, consumer), call.now, taken.is_ok());
        let reports = taken.map_err(Denial::limited)?;
        Ok(Permit::new(Admission {
            identity: caller.map(identity).unwrap_or_default(),
            response_headers: limit::headers(&reports),
        }))
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
        self.inner.publishes.iter().for_each(|rules| rules.keep_all());
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
        self.inner.publishes.iter().for_each(|rules| rules.evict_idle(now));
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

fn identity(caller: &Caller) -> Vec<(&'static str, Arc<str>)> {
    let terms = caller.entitlement.terms();
    vec![
        ("x-imp-consumer", caller.credential.consumer_id().clone()),
        ("x-imp-subscription", terms.subscription_id.clone()),
        ("x-imp-customer", terms.customer_id.clone()),
        ("x-imp-plan", terms.plan_id.clone()),
    ]
}
