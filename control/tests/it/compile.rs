//! From REST to the agents' resources.

use std::collections::HashSet;

use imp_proto::{config as pb, policies};
use imp_store::testing::{Database, Kind};
use rstest::rstest;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::agent::{Agent, eventually};
use crate::control_plane::{ControlPlane, Shop, payment_service};

async fn on(kind: Kind) -> (Database, ControlPlane) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    (database, plane)
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_reaches_its_cluster_with_all_that_it_needs_and_no_other(#[case] kind: Kind) {
    let (_database, plane) = on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    // Created after the first load.
    let other = plane.admin.make("clusters", json!({ "name": "other" })).await;
    let here = Agent::start(&plane, shop.id("clusters")).await;
    let there = Agent::start(&plane, other["id"].as_str().unwrap()).await;
    here.held.reach([1, 1, 1, 1]).await;

    let [publish] = &here.held.all::<pb::Publish>()[..] else { panic!() };
    assert_eq!(publish.id, shop.id("product-publishes"));
    assert_eq!((publish.hostnames.join(","), publish.revision), (shop.host.clone(), 1));
    assert_eq!((publish.base_path.as_str(), publish.environment.as_str()), ("/", "prod"));
    assert_eq!(publish.auth_mode(), pb::publish::AuthMode::ApiKey);
    let [service] = &publish.api_services[..] else { panic!() };
    let routes: Vec<_> = service.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(routes, ["payments", "refunds"]);
    for route in &service.routes {
        assert_eq!(route.backends[0].backend_id, service.backends[0].id, "named by id");
        // Its service's policy applies; the former list of the route is empty.
        assert_eq!((&route.policy_indexes[..], route.policies.len()), (&[0][..], 0));
    }
    assert_eq!(
        publish.policies, service.policies,
        "once, and again for agents of the former release"
    );
    let limit = service.policies[0].kind.clone();
    let expected = pb::RateLimit { requests: 1000, window_seconds: 60 };
    assert_eq!(limit, Some(pb::policy::Kind::RateLimit(expected)));

    let [gateway] = &here.held.all::<pb::Gateway>()[..] else { panic!() };
    assert_eq!(
        (gateway.id.as_str(), gateway.listeners[0].port),
        (publish.gateway_id.as_str(), 8080)
    );
    let [entitlement] = &here.held.all::<pb::Entitlement>()[..] else { panic!() };
    assert_eq!(entitlement.id, shop.id("subscriptions"));
    assert_eq!(entitlement.state(), pb::entitlement::State::Active);
    assert_eq!((entitlement.limits[0].amount, entitlement.limits[0].window_seconds), (60, 60));
    let [credential] = &here.held.all::<pb::Credential>()[..] else { panic!() };
    let key = shop.objects["credentials"]["api_key"].as_str().unwrap();
    assert_eq!(credential.key_sha256, Sha256::digest(key).to_vec());
    assert_eq!(credential.subscription_id, entitlement.id);
    assert_eq!(credential.client_app_id, shop.id("client-apps"));
    assert_eq!(there.held.counts(), [0, 0, 0, 0]);

    // One publish there brings all of them.
    let mut spec = shop.publish("there.example.com");
    spec["cluster_id"] = other["id"].clone();
    let second = shop.provider.make("product-publishes", spec).await;
    there.held.reach([1, 1, 1, 1]).await;
    assert_eq!(there.held.all::<pb::Publish>()[0].id, second["id"].as_str().unwrap());
    let path = format!("/v1/product-publishes/{}", second["id"].as_str().unwrap());
    assert_eq!(shop.provider.delete(&path).await.status, 204);
    there.held.reach([0, 0, 0, 0]).await;
    assert_eq!(here.held.counts(), [1, 1, 1, 1]);
}

/// A new type does not compile until it defines here how its resource is changed and removed.
#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_the_contract_is_delivered_changed_and_removed(#[case] kind: Kind) {
    use pb::ResourceType;
    let (_database, plane) = on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    for &of in ResourceType::ALL {
        let before = agent.held.versions(of);
        assert_eq!(before.len(), 1, "{of:?}");
        let (provider, customer) = (&shop.provider, &shop.customer);
        let answer = match of {
            ResourceType::Gateway => {
                provider.patch(&shop.path("gateways"), json!({ "name": "renamed" })).await
            }
            ResourceType::Publish => {
                provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await
            }
            ResourceType::Entitlement => {
                let why = json!({ "reason": "unpaid" });
                provider.post(&format!("{}/suspend", shop.path("subscriptions")), why).await
            }
            ResourceType::Credential => {
                customer.step(&format!("{}/revoke", shop.path("credentials"))).await
            }
        };
        answer.ok();
        eventually(format!("{of:?} is changed"), || {
            let changed = agent.held.versions(of) != before;
            async move { changed.then_some(()) }
        })
        .await;
    }
    assert_eq!(shop.provider.delete(&shop.path("product-publishes")).await.status, 204);
    for &of in ResourceType::ALL {
        eventually(format!("{of:?} is removed"), || {
            let gone = agent.held.versions(of).is_empty();
            async move { gone.then_some(()) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_is_sent_names_the_request_that_changed_it() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let path = format!("{}/redeploy", shop.path("product-publishes"));
    let answer = shop.provider.step(&path).await;
    let request_id = answer.header("x-request-id").to_owned();
    answer.ok();
    agent.held.one(|it: &pb::Publish| it.revision == 2).await;
    assert_eq!(agent.held.cause::<pb::Publish>(shop.id("product-publishes")), Some(request_id));
}

/// The control plane resolves which policies apply to a route. It also fills the lists for agents
/// of the former release, which resolve them themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_sent_the_policies_that_apply_to_it() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let mut service = payment_service();
    let limit = |name: &str, requests: u64, route: Value| {
        json!({ "name": name, "type": "rate_limit", "route": route,
                "config": { "requests": requests, "per": "minute" } })
    };
    let headers = json!({ "name": "clean", "type": "request_headers",
                          "config": { "remove": ["x-internal"] } });
    service["policies"] =
        json!([limit("all", 1000, Value::Null), limit("few", 5, json!("refunds")), headers]);
    shop.provider.put(&shop.path("api-services"), service.clone()).await.ok();
    // A copy with the same ids: its policies are different ones.
    let mut copy = shop.provider.get(&shop.path("api-services")).await.ok()["policies"].clone();
    copy.as_array_mut().unwrap().retain(|policy| policy["name"] == "all");
    service["name"] = json!("copy");
    service["policies"] = copy;
    // Equal routes would be tied.
    for route in service["routes"].as_array_mut().unwrap() {
        route["priority"] = json!(1);
    }
    let copy = shop.provider.make("api-services", service).await;
    let both = json!({ "api_services": [shop.id("api-services"), copy["id"]] });
    shop.provider.patch(&shop.path("products"), both).await.ok();
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    shop.provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await.ok();
    let publish = agent.held.one(|it: &pb::Publish| it.api_services.len() == 2).await;

    let kind = |policy: &pb::Policy| match &policy.kind {
        Some(pb::policy::Kind::RateLimit(rate)) => rate.requests.to_string(),
        Some(kind) => policies::type_name(kind).to_owned(),
        None => panic!("{policy:?}"),
    };
    let resolved = |publish: &pb::Publish| -> Vec<Vec<String>> {
        let routes = publish.api_services.iter().flat_map(|service| &service.routes);
        let of_route = |route| {
            let found = policies::of_route(&publish.policies, route).map(Option::unwrap);
            found.map(kind).collect()
        };
        routes.map(of_route).collect()
    };
    let expected =
        [&["1000", "request_headers"][..], &["5", "request_headers"], &["1000"], &["1000"]];
    assert_eq!(resolved(&publish), expected);
    let ids: HashSet<_> = publish.policies.iter().map(|policy| &policy.id).collect();
    assert_eq!((publish.policies.len(), ids.len()), (4, 4), "each once, under its own id");

    let mut former = publish.clone();
    former.policies.clear();
    for route in former.api_services.iter_mut().flat_map(|service| &mut service.routes) {
        route.policy_indexes.clear();
    }
    assert_eq!(resolved(&policies::present(&former)), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_a_key_moves_one_resource_and_nothing_brings_it_back() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    agent.held.take_log();
    shop.customer.step(&format!("{}/revoke", shop.path("credentials"))).await.ok();
    agent.held.one(|it: &pb::Credential| it.state() == pb::credential::State::Revoked).await;
    assert_eq!(agent.held.take_log(), [format!("+{}", shop.id("credentials"))]);
    shop.provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await.ok();
    agent.held.one(|it: &pb::Publish| it.revision == 2).await;
    let [credential] = &agent.held.all::<pb::Credential>()[..] else { panic!() };
    assert_eq!(credential.state(), pb::credential::State::Revoked);
    assert_eq!(shop.customer.delete(&shop.path("credentials")).await.status, 204);
    agent.held.reach([1, 1, 1, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_subscription_may_do_follows_its_life() {
    use pb::entitlement::State;
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let path = shop.path("subscriptions");
    let becomes =
        async |state: State| agent.held.one(move |it: &pb::Entitlement| it.state() == state).await;
    becomes(State::Active).await;
    let why = json!({ "reason": "unpaid invoice" });
    shop.provider.post(&format!("{path}/suspend"), why).await.ok();
    assert_eq!(becomes(State::Suspended).await.reason, "unpaid invoice");
    shop.provider.step(&format!("{path}/resume")).await.ok();
    assert_eq!(becomes(State::Active).await.reason, "");
    // New terms are for new subscriptions.
    let dearer = json!({ "rate_limit": { "requests": 600, "per": "minute" } });
    shop.provider.patch(&shop.path("plans"), dearer).await.ok();
    shop.customer.step(&format!("{path}/cancel")).await.ok();
    let ended = becomes(State::Ended).await;
    assert_eq!(ended.limits[0].amount, 60);
    agent.held.reach([1, 1, 1, 1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_suspended_resumed_and_taken_away() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let path = shop.path("product-publishes");
    agent.held.one(|it: &pb::Publish| !it.suspended).await;
    shop.provider.step(&format!("{path}/suspend")).await.ok();
    agent.held.one(|it: &pb::Publish| it.suspended).await;
    shop.provider.step(&format!("{path}/resume")).await.ok();
    agent.held.one(|it: &pb::Publish| !it.suspended).await;
    shop.provider.patch(&shop.path("gateways"), json!({ "name": "renamed" })).await.ok();
    agent.held.one(|it: &pb::Gateway| it.name == "renamed").await;
    assert_eq!(shop.provider.delete(&path).await.status, 204);
    agent.held.reach([0, 0, 0, 0]).await;
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_only_what_changed_is_sent(#[case] kind: Kind) {
    let (database, plane) = on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let mut agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let plane = plane.restart(Some(database.url())).await;
    agent.held.end().await;
    agent.held.take_log();
    agent.follow(plane.running.agent_addr).await;
    let provider = plane.admin.with(shop.provider.token.as_deref());
    provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await.ok();
    agent.held.one(|it: &pb::Publish| it.revision == 2).await;
    assert_eq!(agent.held.take_log(), [format!("+{}", shop.id("product-publishes"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_control_plane_follows_what_the_first_one_writes() {
    let (database, first) = on(Kind::Postgres).await;
    let shop = Shop::open(&first, "acme").await;
    let second = ControlPlane::start_on(Some(database.url())).await;
    assert_eq!(second.running.admin_token, None);
    // Registered with the second one: each control plane has its own key here.
    let token = crate::agent::registration_token(&first.admin, shop.id("clusters")).await;
    let (_, registered) = crate::agent::register(&second, &token).await.unwrap();
    let foreign = crate::agent::renew(first.running.agent_addr, &registered).await;
    assert_eq!(foreign.unwrap_err().code(), tonic::Code::Unauthenticated);

    let admin = first.admin.clone();
    let at_second = ControlPlane { admin, ..second };
    let agent = Agent::start(&at_second, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    shop.provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await.ok();
    agent.held.one(|it: &pb::Publish| it.revision == 2).await;
    assert_eq!(shop.customer.delete(&shop.path("credentials")).await.status, 204);
    agent.held.reach([1, 1, 1, 0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_subscription_counts_where_the_cancelled_one_did() {
    let (_database, plane) = on(Kind::Sqlite).await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    shop.customer.step(&format!("{}/cancel", shop.path("subscriptions"))).await.ok();
    let second = shop.customer.make("subscriptions", shop.subscription()).await;
    let mut dev = shop.subscription();
    dev["environment"] = json!("dev");
    shop.customer.make("subscriptions", dev).await;
    let id = second["id"].as_str().unwrap().to_owned();
    agent.held.one(move |it: &pb::Entitlement| it.id == id).await;
    let all = agent.held.all::<pb::Entitlement>();
    let keys: Vec<&str> = all
        .iter()
        .filter(|it| it.environment == "prod")
        .map(|it| it.counter_key.as_str())
        .collect();
    let expected = format!("{}/{}/prod", shop.id("customers"), shop.id("products"));
    assert_eq!(keys, [expected.as_str(), expected.as_str()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_beside_one_another_have_counts_of_their_own() {
    let (_database, plane) = on(Kind::Sqlite).await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let several = json!({
        "name": "several", "product_id": shop.id("products"), "auto_approve": true,
        "subscriptions_per_customer": 2,
        "quota": { "requests": 7, "per": "week", "utc_offset_minutes": 330 },
    });
    let several = shop.provider.make("plans", several).await;
    let mut body = shop.subscription();
    body["plan_id"] = several["id"].clone();
    let second = shop.customer.make("subscriptions", body).await;
    let id = second["id"].as_str().unwrap().to_owned();
    let other = agent.held.one(move |it: &pb::Entitlement| it.id == id).await;
    let [limit] = other.limits.as_slice() else { panic!("{other:?}") };
    assert_eq!((limit.amount, limit.window_seconds, limit.utc_offset_minutes), (7, 0, 330));
    assert_eq!(limit.window(), pb::limit::Window::CalendarWeek);
    let all = agent.held.all::<pb::Entitlement>();
    let mut keys: Vec<&str> = all.iter().map(|it| it.counter_key.as_str()).collect();
    keys.sort_unstable();
    let first = format!("{}/{}/prod", shop.id("customers"), shop.id("products"));
    assert_eq!(keys, [first.as_str(), format!("{first}/1").as_str()]);
}
