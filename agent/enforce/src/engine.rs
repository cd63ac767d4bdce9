//! The engine: its state and its decisions.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::access::PublishAccess;
use crate::account::Account;
use crate::auth_mode::AuthMode;
use crate::call::{Call, PublishKey};
use crate::decision::{Admission, Denial};
use crate::digest::Named;
use crate::entitlement::{Entitled, Entitlement};
use crate::fast::Fast;
use crate::few::Few;
use crate::id::Id;
use crate::interned::Interned;
use crate::kept::Home;
use crate::keys::{Credential, Keys};
use crate::ledger::{Ledger, Pair};
use crate::limit::{self, AllHeld};
use crate::permit::Permit;
use crate::places::Places;
use crate::rules::{Access, Rules};
use crate::shared::SharedRules;
use crate::usage::{Counter, QuotaRow, Snapshot, Usage};

/// All state that decisions need. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    publishes: DashMap<Arc<str>, Arc<Rules>, Fast>,
    places: Places,
    shared: SharedRules,
    entitlements: DashMap<Id, Arc<Entitled>, Fast>,
    interned: Interned,
    keys: Keys,
    usage: Usage,
    /// Customers' usage by counter key. Also from before a restart and of deleted subscriptions, so
    /// that nobody gets the month's quota twice.
    accounts: DashMap<Arc<str>, Arc<Account>>,
    /// Stores counts; `None` if nothing is stored.
    ledger: Option<Arc<dyn Ledger>>,
    /// The consumer id of calls without a consumer.
    nobody: Id,
}

/// Kinds of what the engine holds by ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object {
    Publish,
    Entitlement,
    Credential,
}

/// Shards of maps that are as long as there are customers: a writer holds one of them.
const SHARDS: usize = 256;

impl Default for Inner {
    fn default() -> Self {
        Self {
            publishes: DashMap::default(),
            places: Places::default(),
            shared: SharedRules::default(),
            entitlements: DashMap::with_hasher_and_shard_amount(Fast::default(), SHARDS),
            interned: Interned::default(),
            keys: Keys::default(),
            usage: Usage::default(),
            accounts: DashMap::with_shard_amount(SHARDS),
            ledger: None,
            nobody: Id::default(),
        }
    }
}

/// The authenticated caller.
struct Caller {
    consumer_id: Id,
    entitlement: Arc<Entitled>,
}

impl Engine {
    /// An empty engine, which refuses everyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty engine that stores its counts in this ledger.
    pub fn kept_in(ledger: Arc<dyn Ledger>) -> Self {
        let usage = Usage::kept_in(ledger.clone());
        let inner = Inner { usage, ledger: Some(ledger), ..Inner::default() };
        Self { inner: Arc::new(inner) }
    }

    /// Adds or replaces a publish that has only these rules. Counts of unchanged rates continue.
    pub fn put_publish(&self, access: PublishAccess) {
        self.put_rules(access, []);
    }

    /// Adds or replaces a publish while some Envoy may still run routes of revisions with other
    /// rules, the most important first: each call is judged by the rules that its route names. At most
    /// [`FORMER_RULES`](crate::FORMER_RULES) are kept. Only the wanted rules decide whether the
    /// publish is suspended.
    pub fn put_rules(
        &self,
        wanted: PublishAccess,
        former: impl IntoIterator<Item = PublishAccess>,
    ) {
        let wanted = self.share(wanted);
        // Before the lock, because it reads the publishes.
        let former: Vec<_> = former.into_iter().map(|former| self.share(former)).collect();
        // Locked until the places are right, so that of two writers the later one decides.
        match self.inner.publishes.entry(wanted.publish_id().clone()) {
            Entry::Occupied(mut slot) => {
                let before = slot.get().clone();
                let next = Rules::new(wanted, former, Some(&before));
                self.inner.places.replace(before.all(), next.all());
                slot.insert(Arc::new(next));
            }
            Entry::Vacant(slot) => {
                let next = Rules::new(wanted, former, None);
                self.inner.places.replace(std::iter::empty(), next.all());
                slot.insert(Arc::new(next));
            }
        }
    }

    /// The same access, sharing memory with the engine's and with equal rules. Whoever holds access
    /// rules beside the engine holds these.
    pub fn share(&self, access: PublishAccess) -> PublishAccess {
        if let Some(rules) = self.inner.publishes.get(access.publish_id())
            && let Some(held) = rules.all().find(|held| held.is_same(&access))
        {
            return held.clone().suspended(access.suspended);
        }
        self.inner.shared.share(access)
    }

    /// Removes a publish; its calls are refused from now on.
    pub fn remove_publish(&self, id: &str) {
        if let Entry::Occupied(slot) = self.inner.publishes.entry(id.into()) {
            self.inner.places.replace(slot.get().all(), std::iter::empty());
            self.inner.places.note_gone(id);
            slot.remove();
        }
    }

    /// Adds or replaces an entitlement. Counts belong to its account and continue.
    pub fn put_entitlement(&self, entitlement: Entitlement) {
        let entitlement = entitlement.sharing(&self.inner.interned);
        let account = self.account(entitlement.counter_key());
        let id = entitlement.id().clone();
        self.inner.entitlements.insert(id, Arc::new(Entitled::new(entitlement, account)));
    }

    /// Removes an entitlement; its consumers are refused from now on. Their usage is kept.
    pub fn remove_entitlement(&self, id: &str) {
        self.inner.entitlements.remove(&Id::from(id));
    }

    /// Removes the publishes, entitlements and credentials for which `stays` is false. Ends a
    /// snapshot, which names everything that exists.
    pub fn retain(&self, mut stays: impl FnMut(Object, &str) -> bool) {
        let publishes = self.inner.publishes.iter().map(|it| it.key().clone());
        let gone: Vec<_> = publishes.filter(|id| !stays(Object::Publish, id)).collect();
        gone.iter().for_each(|id| self.remove_publish(id));
        self.inner.entitlements.retain(|id, _| stays(Object::Entitlement, id.text().as_str()));
        self.inner.keys.retain(|id| stays(Object::Credential, id));
    }

    fn account(&self, key: &Arc<str>) -> Arc<Account> {
        let home = self.inner.ledger.as_ref().map(|ledger| Home::new(ledger, key.clone()));
        let fresh = || Arc::new(Account::kept_in(home));
        self.inner.accounts.entry(key.clone()).or_insert_with(fresh).clone()
    }

    /// Adds or replaces a key.
    pub fn put_credential(&self, credential: Credential) {
        self.inner.keys.put(credential);
    }

    /// Removes a key, which is refused from now on.
    pub fn remove_credential(&self, id: &str) {
        self.inner.keys.remove(id);
    }

    /// Decides about one call and counts it. Finish the permit when the call is over.
    pub fn decide(&self, call: &Call<'_>) -> Result<Permit, Denial> {
        let named = Named::parse(call.access);
        let rules = self.rules(call, &named).ok_or_else(|| self.unknown(call, &named))?;
        let judges = rules.named(&named);
        // For another gateway's publish the answer is the same as for an unknown one.
        if !judges.iter().all(|access| access.is_on(call.gateway_id)) {
            return Err(Denial::unknown_publish());
        }
        if rules.suspended {
            return Err(Denial::publish_suspended());
        }
        let mut caller = None;
        for access in judges {
            caller = self.identify(call, access, named.mode)?.or(caller);
        }
        self.within_limits(call, judges, caller.as_ref())
    }

    /// The refusal of a call whose publish is not known.
    fn unknown(&self, call: &Call<'_>, named: &Named) -> Denial {
        let places = &self.inner.places;
        match (call.publish, named.owner) {
            (PublishKey::Place { host, base_path }, Some(owner)) if !host.is_empty() => {
                match places.was_left(owner, host, base_path) {
                    true => Denial::gone(),
                    false => Denial::unseen_place(),
                }
            }
            (PublishKey::Id(id), _) if places.is_gone(id) => Denial::gone(),
            _ => Denial::unknown_publish(),
        }
    }

    /// The rules of the publish that a call is for.
    fn rules(&self, call: &Call<'_>, named: &Named) -> Option<Arc<Rules>> {
        let of = |id: &str| self.inner.publishes.get(id).map(|rules| rules.clone());
        match call.publish {
            PublishKey::Id(id) => of(id),
            PublishKey::Place { host, base_path } => {
                let owner = named.owner?;
                let rules = of(&self.inner.places.find(owner, host, base_path)?)?;
                // Its rules may have changed after its place was found.
                let is_owner = rules.all().any(|access| access.rules().digest().owner == owner);
                is_owner.then_some(rules)
            }
        }
    }

    /// Authenticates the caller; `None` if neither these rules nor the route require it.
    fn identify(
        &self,
        call: &Call<'_>,
        access: &Access,
        asks: AuthMode,
    ) -> Result<Option<Caller>, Denial> {
        match access.publish.auth_mode().or_stricter(asks) {
            AuthMode::None => Ok(None),
            AuthMode::ApiKey => self.authenticate(call, access).map(Some),
            AuthMode::Unsupported => Err(Denial::unsupported_auth_mode()),
        }
    }

    fn authenticate(&self, call: &Call<'_>, access: &Access) -> Result<Caller, Denial> {
        let found = self.inner.keys.find(call.credential, call.now);
        let holder = found.map_err(Denial::unauthenticated)?;
        let entitlement = self.inner.entitlements.get(&holder.subscription_id);
        let entitlement = entitlement.map(|entitlement| entitlement.clone());
        let entitlement = entitlement.ok_or_else(Denial::no_subscription)?;
        entitlement
            .covers(&access.publish, call.now)
            .map_err(|gap| Denial::not_entitled(gap, entitlement.reason()))?;
        Ok(Caller { consumer_id: holder.consumer_id, entitlement })
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
            Some(caller) => (caller.entitlement.terms(), &caller.consumer_id),
            None => (first.publish.rules().public(), &self.inner.nobody),
        };
        let plan = caller.into_iter().flat_map(|caller| caller.entitlement.held(consumer));
        let mut held: AllHeld<'_> = plan.collect();
        let ledger = self.inner.ledger.as_ref();
        for rate in judges.iter().filter_map(|it| it.held(call.route_id, consumer, ledger)) {
            // Rules that share a rate take one call of it.
            rate.add_to(&mut held);
        }
        let taken = limit::take_all(&mut held, call.now);
        self.inner.usage.count(
            (first.publish.publish_id(), terms, consumer),
            call.now,
            taken.is_ok(),
        );
        taken.map_err(Denial::limited)?;
        Ok(Permit::new(Admission {
            identity: caller.map(identity).unwrap_or_default(),
            response_headers: limit::headers(limit::reports(&held, call.now)),
        }))
    }

    /// The counters that changed after `since` (0: all), and the mark for the next request.
    pub fn usage_changed_since(&self, since: u64) -> (u64, Vec<Counter>) {
        self.inner.usage.changed_since(since)
    }

    /// Records that these counters are committed elsewhere.
    pub fn usage_committed(&self, counters: &[Counter]) {
        self.inner.usage.committed(counters);
    }

    /// Restarts the counters at their uncommitted part, so that nothing is reported twice.
    pub fn rebase_usage(&self) {
        self.inner.usage.rebase();
    }

    /// Stores every count in the ledger, including those that it had no space for before.
    pub fn keep_all(&self) {
        self.inner.usage.keep_all();
        self.inner.accounts.iter().for_each(|account| account.keep_all());
        self.inner.publishes.iter().for_each(|rules| rules.keep_all());
    }

    /// Restores stored counters, each with its committed part.
    pub fn resume_usage(&self, counters: Vec<(Counter, Pair)>) {
        self.inner.usage.restore(counters);
    }

    /// Drops counters of hours that ended before `before`. The caller knows that they are committed
    /// elsewhere.
    pub fn forget_usage(&self, before: DateTime<Utc>) {
        self.inner.usage.forget(before);
    }

    /// Drops unused state: limits of consumers that are full again, and accounts without a
    /// subscription. Walks over all of them, so call it once a minute.
    pub fn evict_idle(&self, now: DateTime<Utc>) {
        self.inner.accounts.retain(|_, account| {
            account.evict_idle(now);
            !account.is_empty() || Arc::strong_count(account) > 1
        });
        self.inner.publishes.iter().for_each(|rules| rules.evict_idle(now));
        self.inner.shared.evict_idle();
        self.inner.interned.evict_idle();
    }

    /// The state that must survive a restart.
    pub fn snapshot(&self, now: DateTime<Utc>) -> Snapshot {
        let (_, counters) = self.usage_changed_since(0);
        let rows = self.inner.accounts.iter().flat_map(|of| of.value().quotas(of.key(), now));
        let mut quotas: Vec<QuotaRow> = rows.collect();
        quotas.sort();
        Snapshot { counters, quotas }
    }

    /// Restores a snapshot; must come before the first entitlement.
    pub fn restore(&self, snapshot: Snapshot) {
        let counters = snapshot.counters.into_iter().map(|counter| (counter, [0, 0]));
        self.inner.usage.restore(counters.collect());
        for row in snapshot.quotas {
            self.account(&row.account.as_str().into()).resume(&row);
        }
    }
}

fn identity(caller: &Caller) -> Few<(&'static str, Id), 4> {
    let terms = caller.entitlement.terms();
    [
        ("x-imp-consumer", caller.consumer_id.clone()),
        ("x-imp-subscription", terms.subscription_id.clone()),
        ("x-imp-customer", terms.customer_id.clone()),
        ("x-imp-plan", terms.plan_id.clone()),
    ]
    .into_iter()
    .collect()
}
