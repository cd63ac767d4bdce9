//! Nobody hears of a change that a power failure could take back. On SQLite: PostgreSQL shows no
//! commit before it is durable.

use std::time::Duration;

use imp_core::product_publish::ProductPublish;
use imp_core::scope::TenantScope;
use imp_proto::config as pb;
use imp_store::testing::{fail_syncs, while_nothing_is_durable};
use imp_store::{Page, Record as _};
use tokio::time::{sleep, timeout};

use crate::agent::{Agent, eventually};
use crate::control_plane::{ControlPlane, Shop};

const MOMENT: Duration = Duration::from_millis(300);

/// How many publishes a reader of the database sees.
async fn publishes(plane: &ControlPlane) -> usize {
    let (scope, filter) = (TenantScope::platform(), Default::default());
    let store = &plane.running.store;
    ProductPublish::list(store, &scope, &filter, Page::all()).await.unwrap().len()
}

fn held(agent: &Agent) -> usize {
    agent.held.all::<pb::Publish>().len()
}

async fn delivered(agent: &Agent) {
    eventually("both publishes", async || (held(agent) == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_neither_answered_nor_listed_nor_delivered_before_it_is_on_disk() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let (provider, spec) = (shop.provider.clone(), shop.publish("second.example.com"));
    let mut posted = None;
    while_nothing_is_durable(&plane.running.store, async {
        let post = async move { provider.make("product-publishes", spec).await };
        let post = posted.insert(tokio::spawn(post));
        while publishes(&plane).await < 2 {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(MOMENT).await;
        assert!(!post.is_finished(), "not answered");
        assert!(timeout(MOMENT, shop.provider.get("/v1/product-publishes")).await.is_err());
        assert_eq!(held(&agent), 1, "not delivered");
    })
    .await;
    posted.unwrap().await.unwrap();
    delivered(&agent).await;
    assert_eq!(shop.provider.get("/v1/product-publishes").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_the_disk_did_not_confirm_is_delivered_only_once_it_is() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let store = &plane.running.store;
    fail_syncs(store, true);
    let spec = shop.publish("second.example.com");
    let answer = shop.provider.post("/v1/product-publishes", spec.clone()).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "unavailable"));
    assert_eq!(answer.header("retry-after"), "5");
    let other =
        shop.provider.post("/v1/product-publishes", shop.publish("third.example.com")).await;
    assert_eq!((other.status.as_u16(), other.code()), (503, "storage_full"));
    sleep(MOMENT).await;
    assert_eq!((publishes(&plane).await, held(&agent)), (2, 1), "kept, and nobody was told");
    fail_syncs(store, false);
    delivered(&agent).await;
    let again = shop.provider.post("/v1/product-publishes", spec).await;
    assert_eq!((again.status.as_u16(), again.code()), (409, "hostname_taken"));
}
