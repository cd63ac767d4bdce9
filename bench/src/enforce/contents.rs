//! What the doors know: one publish, and as many keys as wanted.

use std::path::Path;

use anyhow::Result;
use imp_enforce::{Credential, Engine, Entitlement, PublishAccess};
use imp_module::feed::message::{Item, Kind, Rules, Update};
use imp_module::snapshot::Writer;
use imp_proto::config as pb;
use sha2::{Digest as _, Sha256};

/// The host of the publish.
pub(super) const HOST: &str = "bench.example";

/// The history of the feed.
const HISTORY: &str = "bench";

/// The items of one message of a snapshot.
const PART: usize = 4_096;

/// Kinds of objects, as the first digits of their ids.
const SUBSCRIPTION: u32 = 1;
const CUSTOMER: u32 = 2;
const CREDENTIAL: u32 = 3;
const CONSUMER: u32 = 4;
const TENANT: u32 = 5;
const PRODUCT: u32 = 6;
const PLAN: u32 = 7;
const PUBLISH: u32 = 8;
const ROUTE: u32 = 9;

/// Keys, each of a consumer of its own, and their subscriptions, each of a customer of its own.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub struct Contents {
    pub keys: usize,
    /// Keys of each subscription.
    pub per_subscription: usize,
    /// Limits of the plan: none, a rate, a rate and a quota.
    pub limits: usize,
}

fn id(kind: u32, number: usize) -> String {
    format!("{kind:08x}-0000-7000-8000-{number:012x}")
}

/// The key of this number, as long as ours are.
pub(super) fn key(number: usize) -> String {
    format!("imp_{number:035}")
}

/// The credential of the key of this number.
pub(super) fn credential_id(number: usize) -> String {
    id(CREDENTIAL, number)
}

impl Contents {
    /// The subscription of a key.
    fn subscription(&self, number: usize) -> usize {
        number / self.per_subscription.max(1)
    }

    fn publish() -> pb::Publish {
        pb::Publish {
            id: id(PUBLISH, 0),
            tenant_id: id(TENANT, 0),
            product_id: id(PRODUCT, 0),
            environment: "prod".into(),
            auth_mode: pb::publish::AuthMode::ApiKey.into(),
            hostnames: vec![HOST.into()],
            base_path: "/".into(),
            ..Default::default()
        }
    }

    /// What a route says of itself.
    pub(super) fn route() -> String {
        format!("{} {} /", PublishAccess::from(&Self::publish()).digest(), id(ROUTE, 0))
    }

    fn entitlement(&self, number: usize) -> pb::Entitlement {
        use pb::limit::{OnExceed, Window};
        let limit = |name: &str, window: Window| pb::Limit {
            name: name.into(),
            amount: 1_000_000_000_000,
            window: window.into(),
            window_seconds: 60,
            on_exceed: OnExceed::Block.into(),
            ..Default::default()
        };
        let limits = [limit("rate", Window::Rolling), limit("quota", Window::CalendarMonth)];
        let (customer, product) = (id(CUSTOMER, number), id(PRODUCT, 0));
        pb::Entitlement {
            id: id(SUBSCRIPTION, number),
            tenant_id: id(TENANT, 0),
            counter_key: format!("{customer}/{product}/prod"),
            customer_id: customer,
            product_id: product,
            environment: "prod".into(),
            plan_id: id(PLAN, 0),
            plan_version: 1,
            state: pb::entitlement::State::Active.into(),
            limits: limits.into_iter().take(self.limits).collect(),
            ..Default::default()
        }
    }

    pub(super) fn credential(&self, number: usize) -> pb::Credential {
        pb::Credential {
            id: credential_id(number),
            consumer_id: id(CONSUMER, number),
            subscription_id: id(SUBSCRIPTION, self.subscription(number)),
            key_sha256: Sha256::digest(key(number)).to_vec().into(),
            state: pb::credential::State::Active.into(),
            ..Default::default()
        }
    }

    /// Everything, the subscription of a key before it.
    fn items(&self) -> impl Iterator<Item = Item> + '_ {
        let publish = Self::publish();
        let wanted = serde_json::to_vec(&PublishAccess::from(&publish)).unwrap_or_default();
        let rules = Kind::Rules(Rules { id: publish.id, wanted, former: vec![] });
        let keys = (0..self.keys).flat_map(|number| {
            let first = number.is_multiple_of(self.per_subscription.max(1));
            let subscription = || Kind::Entitlement(self.entitlement(self.subscription(number)));
            let key = Kind::Credential(self.credential(number));
            first.then(subscription).into_iter().chain([key])
        });
        [rules].into_iter().chain(keys).map(Item::from)
    }

    /// Writes the module's file, of version 1.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let mut writer = Writer::create(path)?;
        let mut items = self.items().peekable();
        while items.peek().is_some() {
            let put: Vec<Item> = items.by_ref().take(PART).collect();
            let more = items.peek().is_some();
            writer.update(&Update { more, put, ..update(0, 1) })?;
        }
        Ok(writer.finish()?)
    }

    /// An engine that knows everything, for the agent's service.
    pub(super) fn engine(&self) -> Result<Engine> {
        let engine = Engine::new();
        engine.put_publish(PublishAccess::from(&Self::publish()));
        for number in 0..self.subscription(self.keys.saturating_sub(1)) + 1 {
            engine.put_entitlement(Entitlement::parse(&self.entitlement(number))?);
        }
        for number in 0..self.keys {
            engine.put_credential(Credential::parse(&self.credential(number))?);
        }
        Ok(engine)
    }
}

/// An empty update between these versions.
pub(super) fn update(since: u64, version: u64) -> Update {
    Update { history: HISTORY.into(), since, version, ..Update::default() }
}
