//! Every kind of object can be stored, read back, changed once per version, and deleted.

use chrono::{TimeDelta, Utc};
use imp_core::api_service::ApiServiceStatus;
use imp_core::cluster::{AgentStatus, Capabilities};
use imp_core::domain::DomainStatus;
use imp_core::product::Visibility;
use imp_core::product_publish::Environment;
use imp_core::subscription::{PlanChange, SubscriptionStatus};
use imp_store::testing::Kind;
use imp_store::{Page, Record, Store, StoreError, Writable as _};
use imp_store::{api_token, credential, registration_token};
use rstest::rstest;

use crate::shop::{self, Shop, all, hash, store, write};

async fn again<R: Record>(store: &Store, it: &R) -> Option<R> {
    R::get(store, &all(), it.id()).await.unwrap()
}

async fn everything<R: Record>(store: &Store, _: &R) -> Vec<R> {
    R::list(store, &all(), &R::Filter::default(), Page::all()).await.unwrap()
}

async fn delete<R: Record>(store: &Store, it: &R) -> imp_store::Result<bool> {
    write(store, async |tx| R::delete(tx, &all(), it.id()).await).await
}

/// Stores it with `$insert`, reads, changes and deletes it.
macro_rules! lives {
    ($store:expr, $module:ident, $entity:expr, |$tx:ident, $it:ident| $insert:expr, $change:expr) => {{
        let (store, $it) = ($store, $entity.clone());
        write(store, async |$tx| $insert.await).await.unwrap();
        let read = again(store, &$it).await;
        assert_eq!(read.as_ref(), Some(&$it), "{}", stringify!($module));
        let list = everything(store, &$it).await;
        assert!(list.contains(&$it), "{}: not in the list", stringify!($module));

        let mut changed = $it.clone();
        let change: &dyn Fn(&mut _) = &$change;
        change(&mut changed);
        changed.meta.touch(Utc::now());
        write(store, async |tx| changed.update(tx, 1).await).await.unwrap();
        let read = again(store, &$it).await;
        assert_eq!(read.as_ref(), Some(&changed), "{}: changed", stringify!($module));
        let stale = write(store, async |tx| changed.update(tx, 1).await).await;
        assert!(matches!(stale, Err(StoreError::VersionMismatch { current: 2 })), "{stale:?}");

        let gone = delete(store, &$it).await;
        assert!(gone.unwrap(), "{}: not removed", stringify!($module));
        assert_eq!(again(store, &$it).await, None);
        let again = delete(store, &$it).await;
        assert!(!again.unwrap(), "{}: removed twice", stringify!($module));
        let late = write(store, async |tx| changed.update(tx, 2).await).await;
        assert!(matches!(late, Err(StoreError::VersionMismatch { current: 0 })), "{late:?}");
    }};
}

#[rstest]
#[tokio::test]
async fn what_the_platform_owns(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let tenant = Shop::new("other").tenant;
    lives!(&store, tenant, tenant, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::tenant::Tenant = it;
        it.spec.name = "Other Ltd".to_owned();
    });
    let cluster = shop::cluster("another");
    lives!(&store, cluster, cluster, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::cluster::Cluster = it;
        it.spec.labels.clear();
        it.spec.port_ranges.pop();
    });
    let token = shop::registration_token(shop.cluster.id);
    let key = hash("r");
    lives!(
        &store,
        registration_token,
        token,
        |tx, it| registration_token::insert(tx, &it, &key),
        |it: &mut _| {
            let it: &mut imp_core::cluster::RegistrationToken = it;
            it.used_at = Some(it.meta.created_at);
        }
    );
    let agent = shop::agent(shop.cluster.id);
    lives!(&store, agent, agent, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::cluster::Agent = it;
        it.nodes.clear();
    });
    let token = shop::api_token(Some(shop.tenant.id), Some(shop.customer.id));
    let key = hash("t");
    lives!(&store, api_token, token, |tx, it| api_token::insert(tx, &it, &key), |it: &mut _| {
        let it: &mut imp_core::api_token::ApiToken = it;
        it.revoked_at = Some(it.meta.created_at);
    });
}

#[rstest]
#[tokio::test]
async fn what_a_provider_owns(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let tenant = shop.tenant.id;
    let mut service = shop::service(tenant);
    service.spec.name = "another".to_owned();
    lives!(&store, api_service, service, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::api_service::ApiService = it;
        (it.status, it.revision) = (ApiServiceStatus::Deprecated, 2);
        it.spec.routes.clear();
    });
    let mut gateway = shop::gateway(tenant);
    gateway.spec.name = "another".to_owned();
    lives!(&store, gateway, gateway, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::gateway::Gateway = it;
        it.spec.listeners[0].hostname = Some("api.example.com".to_owned());
    });
    let domain = shop::domain(tenant, "example.com");
    lives!(&store, domain, domain, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::domain::Domain = it;
        (it.status, it.held_since) = (DomainStatus::Verified, Some(it.meta.created_at));
    });
    let mut product = shop::product(tenant, &[shop.service.id]);
    product.spec.name = "another".to_owned();
    lives!(&store, product, product, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::product::Product = it;
        it.spec.visibility = Visibility::Public;
        it.spec.api_services.clear();
    });
    let mut plan = shop::plan(tenant, shop.product.id);
    plan.spec.name = "another".to_owned();
    lives!(&store, plan, plan, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::plan::Plan = it;
        (it.plan_version, it.spec.rate_limit) = (2, None);
    });
    let mut publish = shop.another_publish("another.example.com", "/");
    publish.spec.api_services = vec![shop.service.id];
    lives!(&store, product_publish, publish, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::product_publish::ProductPublish = it;
        (it.desired_revision, it.nodes.behind) = (2, 3);
        it.spec.hostnames.push("more.example.com".to_owned());
        it.spec.api_services.clear();
    });
}

#[rstest]
#[tokio::test]
async fn what_a_customer_owns(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut fresh = Shop::new("acme");
    fresh.customer.tenant_id = shop.tenant.id;
    fresh.customer.spec.name = "another".to_owned();
    lives!(&store, customer, fresh.customer, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::customer::Customer = it;
        it.spec.name = "renamed".to_owned();
    });
    let mut subscription = fresh.subscription;
    subscription.clone_from(&shop.subscription);
    subscription.id = imp_core::SubscriptionId::new();
    subscription.environment = Environment::Dev;
    subscription.product_publish_id = Some(shop.publish.id);
    let at = subscription.meta.created_at;
    let (plan_id, plan_version) = (shop.plan.id, 2);
    subscription.plan_change = Some(PlanChange { plan_id, plan_version, at });
    lives!(&store, subscription, subscription, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::subscription::Subscription = it;
        (it.status, it.ends_at) = (SubscriptionStatus::Cancelled, Some(it.meta.created_at));
        (it.activated_at, it.plan_change) = (Some(it.meta.created_at), None);
        it.product_publish_id = None;
    });
    let mut app = shop.app.clone();
    (app.id, app.spec.name) = (imp_core::ClientAppId::new(), "another".to_owned());
    lives!(&store, client_app, app, |tx, it| it.insert(tx), |it: &mut _| {
        let it: &mut imp_core::client_app::ClientApp = it;
        it.spec.name = "renamed".to_owned();
    });
    write(&store, async |tx| app.insert(tx).await).await.unwrap();
    let mut consumer = shop.consumer;
    (consumer.id, consumer.spec.client_app_id) = (imp_core::ConsumerId::new(), app.id);
    lives!(&store, consumer, consumer, |tx, it| it.insert(tx), |_: &mut _| {});
    let credential = shop::credential(&shop.consumer);
    let key = hash("another key");
    lives!(
        &store,
        credential,
        credential,
        |tx, it| credential::insert(tx, &it, &key),
        |it: &mut _| {
            let it: &mut imp_core::credential::Credential = it;
            it.status = it.status.revoke().unwrap();
            it.spec.expires_at = None;
        }
    );
}

#[rstest]
#[tokio::test]
async fn secrets_are_found_by_their_hash_only(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let token = shop::api_token(None, None);
    write(&store, async |tx| imp_store::api_token::insert(tx, &token, &hash("one")).await)
        .await
        .unwrap();
    assert_eq!(imp_store::api_token::by_hash(&store, &hash("one")).await.unwrap(), Some(token));
    assert_eq!(imp_store::api_token::by_hash(&store, &hash("two")).await.unwrap(), None);
    let id = shop.credential.id;
    let key = imp_store::credential::hash_of(&store, id).await.unwrap().unwrap();
    assert!(key.0 == hash(&id.to_string()).0);
}

#[rstest]
#[tokio::test]
async fn former_terms_of_a_plan_stay(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut plan = Shop::open(&store, "acme").await.plan;
    let former = plan.spec.clone();
    plan.spec.quota = serde_json::from_str(r#"{ "requests": 1000, "per": "month" }"#).unwrap();
    plan.plan_version = 2;
    let freeze = async |tx: &mut imp_store::Tx| {
        plan.update(tx, 1).await?;
        imp_store::plan::insert_version(tx, plan.id, 2, &plan.spec).await
    };
    write(&store, freeze).await.unwrap();
    let terms = async |version| imp_store::plan::version(&store, plan.id, version).await.unwrap();
    assert_eq!(terms(1).await, Some(former));
    assert_eq!(terms(2).await.as_ref(), Some(&plan.spec));
    assert_eq!(terms(3).await, None);
}

#[rstest]
#[tokio::test]
async fn a_registration_token_lets_one_in(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    use imp_store::registration_token as table;
    let (_database, store) = store(kind).await;
    let token = shop::registration_token(Shop::open(&store, "acme").await.cluster.id);
    write(&store, async |tx| table::insert(tx, &token, &hash("r")).await).await.unwrap();
    let take = async |text: &str, at| {
        write(&store, async |tx| table::take(tx, &hash(text), at).await).await.unwrap()
    };
    let now = token.meta.created_at + TimeDelta::seconds(1);
    assert_eq!(take("wrong", now).await, None);
    assert_eq!(take("r", token.expires_at).await, None, "too old");
    let taken = take("r", now).await.unwrap();
    assert_eq!((taken.id, taken.used_at), (token.id, Some(now)));
    assert_eq!(take("r", now).await, None, "used");
}

#[rstest]
#[tokio::test]
async fn a_heartbeat_is_no_edit_and_a_revoked_agent_has_none(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    use imp_store::agent as table;
    let (_database, store) = store(kind).await;
    let agent = shop::agent(Shop::open(&store, "acme").await.cluster.id);
    write(&store, async |tx| agent.insert(tx).await).await.unwrap();
    let later = agent.meta.created_at + TimeDelta::seconds(20);
    let mut nodes = agent.nodes.clone();
    nodes[0].id = "nul \0 in it".to_owned();
    let types = vec!["cors".to_owned(), "n\0l".to_owned()];
    let said = Capabilities { policy_types: types, ..Default::default() };
    let said = table::Beat { agent_version: "0.2.0".to_owned(), nodes, capabilities: Some(said) };
    let beat = async || {
        write(&store, async |tx| table::heartbeat(tx, agent.id, &said, later).await).await.unwrap()
    };
    let able = async |since| {
        write(&store, async |tx| table::able_since(tx, agent.cluster_id, since).await)
            .await
            .unwrap()
            .into_iter()
            .map(|agent| agent.capabilities)
            .collect::<Vec<_>>()
    };
    let look = async || again(&store, &agent).await.unwrap();
    assert!(beat().await);
    let read = look().await;
    assert_eq!((read.meta, read.last_seen_at), (agent.meta, Some(later)));
    assert_eq!(read.nodes[0].id, "nul \u{fffd} in it");
    assert_eq!(read.capabilities.clone().unwrap().policy_types, ["cors", "n\u{fffd}l"]);
    assert_eq!(able(later).await, [read.capabilities.unwrap()]);
    assert_eq!(able(later + TimeDelta::seconds(1)).await, []);
    let silent = table::Beat::default();
    write(&store, async |tx| table::heartbeat(tx, agent.id, &silent, later).await).await.unwrap();
    assert_eq!(able(later).await, [Capabilities::unsaid()], "an older build now");
    let revoke =
        async || write(&store, async |tx| table::revoke(tx, agent.id, later).await).await.unwrap();
    assert!(revoke().await);
    assert!(!revoke().await && !beat().await);
    assert_eq!(look().await.status, AgentStatus::Revoked);
    assert_eq!(able(later).await, []);
}
