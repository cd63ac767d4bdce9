//! Rate limits and concurrency limits of the REST API: how fast a token and a tenant may call, how
//! much memory a tenant's calls may hold, and whose turn it is to write. One tenant's load must not
//! slow down another.

use std::hash::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use imp_core::scope::{Principal, TenantScope};
use imp_core::{ApiTokenId, CustomerId, TenantId};
use imp_grammar::caps;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::refusal::Refusal;

/// Rates of the REST API, per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestRates {
    pub token: u32,
    pub tenant: u32,
}

impl Default for RestRates {
    fn default() -> Self {
        let rate = |cap: &caps::Cap| u32::try_from(cap.value).unwrap_or(u32::MAX);
        Self { token: rate(&caps::TOKEN_RATE), tenant: rate(&caps::TENANT_RATE) }
    }
}

/// Shared by all requests. Clones share their state.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    tokens: Rates<ApiTokenId>,
    tenants: Rates<TenantId>,
    /// Rates of tokens for calls that revoke or remove something.
    removals: Rates<ApiTokenId>,
    /// Permits for requests that wait because they came too early.
    early: Arc<Semaphore>,
    early_by_tenant: DashMap<Option<TenantId>, Arc<Semaphore>>,
    all: Arc<Semaphore>,
    /// Keyed by tenant; `None` stands for operators.
    by_tenant: DashMap<Option<TenantId>, Arc<Semaphore>>,
    writes: Turns,
    /// Turns for writes that revoke or remove something, so that a revocation does not wait behind
    /// its tenant's publishes.
    tightenings: Turns,
    large: Turns,
}

/// A fixed number of turns per party. Others wait, but never for another party's turn.
struct Turns {
    at_a_time: usize,
    of: DashMap<Party, Arc<Queue>>,
}

struct Queue {
    turns: Arc<Semaphore>,
    /// Permits for those who hold a turn or wait for one.
    places: Arc<Semaphore>,
}

/// The people of a tenant, or one of its customers.
type Party = (TenantId, Option<CustomerId>);

/// The token and tenant whose rates a request counts against.
#[derive(Clone, Copy, Debug)]
pub struct Payer {
    token: ApiTokenId,
    tenant: Option<TenantId>,
}

impl From<&Principal> for Payer {
    fn from(caller: &Principal) -> Self {
        Self { token: caller.token_id, tenant: caller.tenant_id }
    }
}

/// A turn; released on drop.
#[derive(Debug)]
pub struct Turn {
    _turn_and_place: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
}

/// The share of its tenant's memory that a request holds until its answer is sent.
#[derive(Debug)]
pub struct Permit {
    _tenant: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// How long a request waits for memory that earlier ones of its tenant hold.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest that a request which comes too early is delayed.
const PAUSE: Duration = Duration::from_millis(250);
/// Bounds on delayed requests, in total and per tenant: each holds a connection that others may
/// need.
const EARLY: usize = 256;
const EARLY_OF_TENANT: usize = 16;
/// The longest wait that charged work can cause.
const LONGEST_DEBT: Duration = Duration::from_secs(5);
/// How long a request waits for its turn.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// Bytes that every request is counted with.
pub const SMALL: usize = 64 << 10;
/// The unit in which memory is counted.
const GRAIN: usize = 1024;
/// Above this number of keys, those whose rate is full again are dropped.
const REMEMBERED: usize = 4096;

impl Admission {
    pub fn new(rates: RestRates) -> Self {
        let inner = Inner {
            tokens: Rates::new(rates.token),
            tenants: Rates::new(rates.tenant),
            removals: Rates::new(rates.token),
            early: Arc::new(Semaphore::new(EARLY)),
            early_by_tenant: DashMap::new(),
            all: semaphore(&caps::BODY_BYTES_IN_FLIGHT),
            by_tenant: DashMap::new(),
            writes: Turns::new(&caps::WRITES_AT_A_TIME),
            tightenings: Turns::new(&caps::WRITES_AT_A_TIME),
            large: Turns::new(&caps::LARGE_AT_A_TIME),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Counts a request against the rates of its token and its tenant. A request that comes
    /// slightly too early is delayed and then served, which also slows down clients that retry at
    /// once.
    ///
    /// Requests that revoke or remove something have a rate of their own, so that a key can be
    /// revoked however much its tenant has called.
    pub async fn count(&self, caller: &Principal, tightens: bool) -> Result<(), Refusal> {
        let Err(wait) = self.inner.count(caller, tightens) else { return Ok(()) };
        let counted = match self.inner.early_place(caller.tenant_id) {
            Some(_places) => {
                tokio::time::sleep(wait.min(PAUSE)).await;
                self.inner.count(caller, tightens)
            }
            None => Err(wait),
        };
        counted.map_err(|wait| {
            metrics::counter!("imp_rest_limited_total").increment(1);
            Refusal::RateLimited { wait }
        })
    }

    /// Charges work whose size is known only afterwards (bytes read or written) to the rates of
    /// token and tenant, which delays their next requests.
    pub fn charge(&self, payer: Payer, bytes: usize) {
        let requests = u32::try_from(bytes / caps::RATE_BYTES.size()).unwrap_or(u32::MAX);
        if requests == 0 {
            return;
        }
        let now = Instant::now();
        self.inner.tokens.charge(payer.token, requests, now);
        if let Some(tenant) = payer.tenant {
            self.inner.tenants.charge(tenant, requests, now);
        }
    }

    /// Reserves memory for this many bytes, waiting for the tenant's other requests if need be.
    pub async fn room(&self, tenant: Option<TenantId>, bytes: usize) -> Result<Permit, Refusal> {
        let own = self.inner.by_tenant.entry(tenant).or_insert_with(share).clone();
        let grains = |cap: &caps::Cap| {
            u32::try_from(bytes.min(cap.size()).div_ceil(GRAIN)).unwrap_or(u32::MAX)
        };
        let (of_tenant, of_all) =
            (grains(&caps::TENANT_BYTES_IN_FLIGHT), grains(&caps::BODY_BYTES_IN_FLIGHT));
        let waited = tokio::time::timeout(PATIENCE, async {
            let tenant = own.acquire_many_owned(of_tenant).await.ok()?;
            let all = self.inner.all.clone().acquire_many_owned(of_all).await.ok()?;
            Some(Permit { _tenant: tenant, _all: all })
        });
        waited.await.ok().flatten().ok_or_else(crowded)
    }

    /// Waits for a turn to write. Each party has one place in the queue for the database; operators
    /// have one per request. Writes that revoke or remove something have their own queue.
    pub async fn write(&self, scope: &TenantScope, tightens: bool) -> Result<Turn, Refusal> {
        let turns = if tightens { &self.inner.tightenings } else { &self.inner.writes };
        turns.take(scope).await
    }

    /// Waits for a turn to handle a request of this many bytes. Small requests need none.
    pub async fn work(&self, scope: &TenantScope, bytes: usize) -> Result<Turn, Refusal> {
        if bytes <= SMALL {
            return Ok(Turn { _turn_and_place: None });
        }
        self.inner.large.take(scope).await
    }
}

impl Inner {
    /// Counts the request, or returns how long to wait.
    fn count(&self, caller: &Principal, tightens: bool) -> Result<(), Duration> {
        let now = Instant::now();
        if tightens {
            return self.removals.take(caller.token_id, now);
        }
        // A request that the tenant's rate refuses does not count against the token's.
        self.tokens.wait(&caller.token_id, now)?;
        caller.tenant_id.map_or(Ok(()), |tenant| self.tenants.take(tenant, now))?;
        self.tokens.take(caller.token_id, now)
    }

    /// Takes a permit to wait, of the tenant's and of the total.
    fn early_place(&self, tenant: Option<TenantId>) -> Option<[OwnedSemaphorePermit; 2]> {
        if self.early_by_tenant.len() > REMEMBERED {
            self.early_by_tenant.retain(|_, places| places.available_permits() < EARLY_OF_TENANT);
        }
        let own = || Arc::new(Semaphore::new(EARLY_OF_TENANT));
        let own = self.early_by_tenant.entry(tenant).or_insert_with(own).clone();
        let own = own.try_acquire_owned().ok()?;
        Some([own, self.early.clone().try_acquire_owned().ok()?])
    }
}

impl Turns {
    fn new(cap: &caps::Cap) -> Self {
        Self { at_a_time: cap.size(), of: DashMap::new() }
    }

    async fn take(&self, scope: &TenantScope) -> Result<Turn, Refusal> {
        let Some(tenant) = scope.tenant() else { return Ok(Turn { _turn_and_place: None }) };
        if self.of.len() > REMEMBERED {
            self.of.retain(|_, queue| queue.places.available_permits() < caps::QUEUE_PLACES.size());
        }
        let queue = || {
            Arc::new(Queue {
                turns: Arc::new(Semaphore::new(self.at_a_time)),
                places: Arc::new(Semaphore::new(caps::QUEUE_PLACES.size())),
            })
        };
        let queue = self.of.entry((tenant, scope.customer())).or_insert_with(queue).clone();
        let place = queue.places.clone().try_acquire_owned().map_err(|_| crowded())?;
        let waited = tokio::time::timeout(TURN_PATIENCE, queue.turns.clone().acquire_owned()).await;
        let turn = waited.ok().and_then(Result::ok).ok_or_else(crowded)?;
        Ok(Turn { _turn_and_place: Some((turn, place)) })
    }
}

fn crowded() -> Refusal {
    metrics::counter!("imp_rest_crowded_total").increment(1);
    Refusal::Busy
}

fn semaphore(cap: &caps::Cap) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(cap.size() / GRAIN))
}

fn share() -> Arc<Semaphore> {
    semaphore(&caps::TENANT_BYTES_IN_FLIGHT)
}

/// A rate for each of many (GCRA): when the next request would be on time, and how early it may be.
struct Rates<K: Eq + Hash> {
    every: Duration,
    early: Duration,
    next: DashMap<K, Instant>,
}

impl<K: Eq + Hash> Rates<K> {
    /// A rate of `per_second`, with bursts of twice that.
    fn new(per_second: u32) -> Self {
        let every = Duration::from_secs(1) / per_second.max(1);
        Self { every, early: Duration::from_secs(2).saturating_sub(every), next: DashMap::new() }
    }

    /// Takes one, or returns how long to wait.
    fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        if self.next.len() > REMEMBERED {
            self.next.retain(|_, next| *next > now);
        }
        let mut next = self.next.entry(key).or_insert(now);
        let due = (*next).max(now);
        let ahead = due.saturating_duration_since(now);
        if ahead > self.early {
            return Err(ahead - self.early);
        }
        *next = due + self.every;
        Ok(())
    }

    /// Returns how long to wait without taking anything.
    fn wait(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let ahead = self.next.get(key).map(|next| next.saturating_duration_since(now));
        match ahead.unwrap_or_default().checked_sub(self.early) {
            None | Some(Duration::ZERO) => Ok(()),
            Some(wait) => Err(wait),
        }
    }

    /// Counts this many requests even if they exceed the rate.
    fn charge(&self, key: K, requests: u32, now: Instant) {
        let mut next = self.next.entry(key).or_insert(now);
        let due = (*next).max(now) + self.every.saturating_mul(requests);
        *next = due.min(now + self.early + LONGEST_DEBT);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_rate_gives_its_burst_at_once_and_then_its_pace() {
        let (rates, start) = (Rates::new(10), Instant::now());
        for _ in 0..20 {
            assert_eq!(rates.take(1, start), Ok(()));
        }
        assert_eq!(rates.take(1, start), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(2, start), Ok(()), "each has its own");
        let later = start + Duration::from_millis(100);
        assert_eq!(rates.take(1, later), Ok(()));
        assert!(rates.take(1, later).is_err());
    }

    #[test]
    fn what_was_charged_is_waited_for() {
        let (rates, start) = (Rates::new(10), Instant::now());
        rates.charge(1, 25, start);
        assert_eq!(rates.take(1, start), Err(Duration::from_millis(600)));
        assert_eq!(rates.take(1, start + Duration::from_millis(600)), Ok(()));
        assert_eq!(rates.take(2, start), Ok(()));
        rates.charge(3, 1_000_000, start);
        assert_eq!(rates.take(3, start), Err(LONGEST_DEBT), "nobody is shut out for hours");
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_revoked_however_much_was_asked_for() {
        let admission = Admission::new(RestRates { token: 10, tenant: 10 });
        let caller = Principal {
            token_id: ApiTokenId::new(),
            tenant_id: Some(TenantId::new()),
            customer_id: None,
            roles: Vec::new(),
        };
        admission.charge(Payer::from(&caller), 1 << 30);
        let refused = admission.count(&caller, false).await.unwrap_err();
        let Refusal::RateLimited { wait } = refused else { panic!("{refused}") };
        assert_eq!(wait.as_millis().div_ceil(1000), 5);
        assert!(admission.count(&caller, true).await.is_ok());
    }

    #[test]
    fn whom_the_tenants_rate_refuses_pays_nothing_of_its_own() {
        let admission = Admission::new(RestRates { token: 10, tenant: 1 });
        let caller = |tenant| Principal {
            token_id: ApiTokenId::new(),
            tenant_id: Some(tenant),
            customer_id: None,
            roles: Vec::new(),
        };
        let tenant = TenantId::new();
        let (greedy, quiet) = (caller(tenant), caller(tenant));
        while admission.inner.count(&greedy, false).is_ok() {}
        for _ in 0..50 {
            assert!(admission.inner.count(&quiet, false).is_err());
        }
        assert_eq!(admission.inner.tokens.wait(&quiet.token_id, Instant::now()), Ok(()));
    }

    #[test]
    fn who_is_on_time_again_is_forgotten() {
        let (rates, start) = (Rates::new(10), Instant::now());
        for key in 0..=REMEMBERED {
            rates.take(key, start).unwrap();
        }
        rates.take(REMEMBERED + 1, start + Duration::from_secs(1)).unwrap();
        assert_eq!(rates.next.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_tenant_fills_its_own_share_only() {
        let admission = Admission::new(RestRates::default());
        let (one, other) = (Some(TenantId::new()), Some(TenantId::new()));
        let share = caps::TENANT_BYTES_IN_FLIGHT.size();
        let held = admission.room(one, share).await.unwrap();
        let refused = admission.room(one, 1).await.unwrap_err();
        assert!(matches!(refused, Refusal::Busy), "{refused}");
        let _others = admission.room(other, share).await.unwrap();
        drop(held);
        assert!(admission.room(one, share).await.is_ok());
    }
    fn of(tenant: TenantId) -> TenantScope {
        TenantScope::platform().within(tenant).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn writes_of_one_tenant_take_turns_and_another_does_not_wait_for_them() {
        let admission = Admission::new(RestRates::default());
        let (one, other) = (of(TenantId::new()), of(TenantId::new()));
        let first = admission.write(&one, false).await.unwrap();
        let refused = admission.write(&one, false).await.unwrap_err();
        assert!(matches!(refused, Refusal::Busy), "{refused}");
        let _another = admission.write(&other, false).await.unwrap();
        let _revoked = admission.write(&one, true).await.unwrap();
        let operators = TenantScope::platform();
        let _held = admission.write(&operators, false).await.unwrap();
        assert!(admission.write(&operators, false).await.is_ok());
        drop(first);
        assert!(admission.write(&one, false).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_large_requests_of_a_tenant_are_worked_on_and_one_more_waits() {
        let admission = Admission::new(RestRates::default());
        let (one, other) = (of(TenantId::new()), of(TenantId::new()));
        let mut held = Vec::new();
        for _ in 0..caps::LARGE_AT_A_TIME.value {
            held.push(admission.work(&one, SMALL + 1).await.unwrap());
        }
        assert!(admission.work(&one, SMALL + 1).await.is_err());
        assert!(admission.work(&one, SMALL).await.is_ok(), "small ones never wait");
        assert!(admission.work(&other, SMALL + 1).await.is_ok());
        held.pop();
        assert!(admission.work(&one, SMALL + 1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_stand_in_a_queue_and_one_more_is_refused_at_once() {
        let admission = Admission::new(RestRates::default());
        let one = of(TenantId::new());
        let places = caps::QUEUE_PLACES.size();
        let mut waiting: Vec<_> =
            (0..places).map(|_| Box::pin(admission.write(&one, false))).collect();
        let mut held = Vec::new();
        for writer in &mut waiting {
            held.extend(writer.as_mut().now_or_never());
        }
        assert_eq!(held.len(), caps::WRITES_AT_A_TIME.size());
        let refused = admission.write(&one, false).now_or_never().expect("at once").unwrap_err();
        assert!(matches!(refused, Refusal::Busy), "{refused}");
        drop((waiting, held));
        assert!(admission.write(&one, false).await.is_ok());
    }

    #[tokio::test]
    async fn who_has_no_turn_any_more_is_forgotten() {
        let admission = Admission::new(RestRates::default());
        let _turn = admission.write(&of(TenantId::new()), false).await.unwrap();
        for _ in 0..=REMEMBERED {
            admission.write(&of(TenantId::new()), false).await.unwrap();
        }
        assert_eq!(admission.inner.writes.of.len(), 2, "the one that holds a turn, and the last");
    }
}
