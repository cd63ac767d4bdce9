//! Rows that a replica cannot read or render: agents keep what they have of them.

use imp_proto::config::ResourceType;
use imp_store::testing::{Database, Kind, execute};
use rstest::rstest;

use crate::agent::Agent;
use crate::control_plane::{ControlPlane, Shop};

/// Corrupts the row behind the resource of the first publish.
fn spoiled(of: ResourceType, kind: Kind) -> &'static str {
    match (of, kind) {
        (ResourceType::Gateway, _) => "UPDATE gateways SET listeners = '[7]'",
        (ResourceType::Publish, _) => {
            "UPDATE product_publish_revisions SET api_services = '[7]' WHERE product_publish_id = \
             (SELECT id FROM product_publishes ORDER BY id LIMIT 1)"
        }
        (ResourceType::Entitlement, _) => "UPDATE plan_versions SET terms = '7'",
        (ResourceType::Credential, Kind::Sqlite) => "UPDATE credentials SET secret_hash = x'07'",
        (ResourceType::Credential, Kind::Postgres) => {
            "UPDATE credentials SET secret_hash = '\\x07'::bytea"
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_replica_takes_nothing_away_that_it_cannot_read(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(
        ResourceType::Gateway,
        ResourceType::Publish,
        ResourceType::Entitlement,
        ResourceType::Credential
    )]
    of: ResourceType,
) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    let shop = Shop::open(&plane, "acme").await;
    let other = shop.provider.make("product-publishes", shop.publish("other.example.com")).await;
    let other = other["id"].as_str().unwrap();
    let mut agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 2, 1, 1]).await;
    let before = agent.held.versions(of);

    execute(&plane.running.store, spoiled(of, kind)).await.unwrap();
    let plane = plane.restart(Some(database.url())).await;
    agent.held.take_log();
    agent.follow(plane.running.agent_addr).await;
    let provider = plane.admin.with(shop.provider.token.as_deref());
    let path = format!("/v1/product-publishes/{other}");
    assert_eq!(provider.delete(&path).await.status, 204);
    // What the replica considers gone is removed first.
    agent.held.reach([1, 1, 1, 1]).await;
    assert_eq!(agent.held.take_log(), [format!("-{other}")]);
    let mut kept = before;
    kept.remove(other);
    assert_eq!(agent.held.versions(of), kept);

    // An agent that has none of it is served the rest.
    let newcomer = Agent::start(&plane, shop.id("clusters")).await;
    let expected = ResourceType::ALL.iter().map(|it| usize::from(*it != of)).collect::<Vec<_>>();
    newcomer.held.reach(expected.try_into().unwrap()).await;

    assert_eq!(provider.delete(&shop.path("product-publishes")).await.status, 204);
    agent.held.reach([0, 0, 0, 0]).await;
}

/// Terms that this release does not know, or cannot read at all.
fn without_terms(kind: Kind, newer: bool) -> &'static str {
    match (newer, kind) {
        (false, _) => "UPDATE plan_versions SET terms = '7'",
        (true, Kind::Sqlite) => {
            "UPDATE plan_versions SET terms = replace(terms, '\"minute\"', '\"week\"')"
        }
        (true, Kind::Postgres) => {
            "UPDATE plan_versions SET \
             terms = CAST(replace(CAST(terms AS TEXT), '\"minute\"', '\"week\"') AS JSONB)"
        }
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_customer_lost_is_told_whatever_the_terms(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(true, false)] newer: bool,
) {
    use imp_proto::config::Entitlement;
    use imp_proto::config::entitlement::State;
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let store = &plane.running.store;
    execute(store, without_terms(kind, newer)).await.unwrap();
    let subscription = shop.path("subscriptions");
    let step = async |step: &str| shop.provider.step(&format!("{subscription}/{step}")).await;
    let suspend = async || {
        let why = serde_json::json!({ "reason": "unpaid" });
        shop.provider.post(&format!("{subscription}/suspend"), why).await.ok()
    };
    suspend().await;
    let told = agent.held.one(|it: &Entitlement| it.state() == State::Suspended).await;
    assert!(told.limits.is_empty(), "{told:?}");
    // It is given nothing back that this release cannot put into words.
    step("resume").await.ok();
    let other = shop.provider.make("product-publishes", shop.publish("other.example.com")).await;
    agent.held.reach([1, 2, 1, 1]).await;
    assert_eq!(agent.held.all::<Entitlement>(), [told], "{other}");
    // What a newer release says of its end holds once it has come.
    execute(store, "UPDATE subscriptions SET ends_at = created_at").await.unwrap();
    suspend().await;
    step("resume").await.ok();
    agent.held.one(|it: &Entitlement| it.state() == State::Ended).await;
    step("cancel").await.ok();
    agent.held.one(|it: &Entitlement| it.state() == State::Ended && it.expires_at_ms > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_read_again_is_sent() {
    let database = Database::fresh(Kind::Sqlite).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    let shop = Shop::open(&plane, "acme").await;
    shop.provider.make("product-publishes", shop.publish("other.example.com")).await;
    execute(&plane.running.store, spoiled(ResourceType::Publish, Kind::Sqlite)).await.unwrap();
    let plane = plane.restart(Some(database.url())).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let mended = "UPDATE product_publish_revisions SET api_services = (SELECT api_services \
        FROM product_publish_revisions ORDER BY product_publish_id DESC LIMIT 1)";
    execute(&plane.running.store, mended).await.unwrap();
    let provider = plane.admin.with(shop.provider.token.as_deref());
    provider.step(&format!("{}/suspend", shop.path("product-publishes"))).await.ok();
    agent.held.reach([1, 2, 1, 1]).await;
}
