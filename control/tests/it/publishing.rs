//! Publishes: revisions, rollbacks, claims on hostnames.

use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Shop, payment_service};

#[tokio::test]
async fn a_new_publish_waits_and_says_for_what() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let publish = &shop.objects["product-publishes"];
    assert_eq!(publish["status"], "pending");
    assert_eq!((&publish["desired_revision"], &publish["acked_revision"]), (&json!(1), &json!(0)));
    assert!(publish["message"].as_str().unwrap().contains("no agent"), "{publish:#}");
    assert_eq!(publish["base_path"], "/");
}

/// Between reading and writing an agent may have reported, which is no conflict.
#[tokio::test]
async fn what_agents_report_may_be_sent_back_as_it_was_but_not_set() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("product-publishes");
    let now = shop.provider.get(&path).await.ok();
    let mut then = now.clone();
    then["status"] = json!("deploying");
    then["nodes"] = json!({ "acked": 0, "nacked": 0, "behind": 2 });
    then["message"] = json!("something else");
    assert_eq!(shop.provider.put(&path, then).await.ok(), now);
    let answer = shop.provider.patch(&path, json!({ "status": "active" })).await;
    answer.refused(422, "immutable_field", "/status");
}

#[rstest]
#[tokio::test]
async fn each_change_makes_an_immutable_revision_and_a_rollback_repeats_an_earlier_one(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    let mut service = payment_service();
    service["routes"][0]["timeout_ms"] = json!(100);
    provider.put(&shop.path("api-services"), service).await.ok();
    let revisions = async || provider.get(&format!("{path}/revisions")).await.ok()["items"].clone();
    assert_eq!(revisions().await.as_array().unwrap().len(), 1, "a published copy is frozen");

    let again = provider.step(&format!("{path}/redeploy")).await.ok();
    assert_eq!((&again["desired_revision"], &again["status"]), (&json!(2), &json!("pending")));
    let back = provider.post(&format!("{path}/rollback"), json!({ "revision": 1 })).await.ok();
    assert_eq!(back["desired_revision"], 3);
    let mut all: Vec<Value> = revisions().await.as_array().unwrap().clone();
    all.sort_by_key(|revision| revision["revision"].as_i64());
    for (number, timeout) in [(1, json!(null)), (2, json!(100)), (3, json!(null))] {
        let whole = provider.get(&format!("{path}/revisions/{number}")).await.ok();
        assert_eq!(whole["api_services"][0]["spec"]["routes"][0]["timeout_ms"], timeout);
    }
    assert!(all.iter().all(|revision| revision.get("api_services").is_none()), "{all:?}");
    for nothing in ["4", "0", "-1", "x", "99999999999999999999"] {
        provider.get(&format!("{path}/revisions/{nothing}")).await.refused(404, "not_found", "");
    }
    assert_eq!(all[0]["content_hash"], all[2]["content_hash"]);
    assert_ne!(all[0]["content_hash"], all[1]["content_hash"]);
    let none = provider.post(&format!("{path}/rollback"), json!({ "revision": 9 })).await;
    none.refused(422, "unknown_reference", "/revision");
}

#[tokio::test]
async fn a_rollback_takes_the_former_hostnames_back_only_when_they_are_still_free() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    provider.patch(&path, json!({ "hostnames": ["new.example.com"] })).await.ok();
    let other = provider.make("product-publishes", shop.publish(&shop.host)).await;
    let back = provider.post(&format!("{path}/rollback"), json!({ "revision": 1 })).await;
    back.refused(409, "hostname_taken", "/hostnames/0");
    assert_eq!(provider.get(&path).await.ok()["hostnames"], json!(["new.example.com"]));
    let other = format!("/v1/product-publishes/{}", other["id"].as_str().unwrap());
    assert_eq!(provider.delete(&other).await.status, 204);
    let back = provider.post(&format!("{path}/rollback"), json!({ "revision": 1 })).await.ok();
    assert_eq!(back["hostnames"], json!([shop.host]));
}

#[rstest]
#[tokio::test]
async fn a_new_base_path_has_one_spelling(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let path = format!("/v1/product-publishes/{}", shop.id("product-publishes"));
    for base in ["/a:b", "/a%3Ab", "/v1/$x", "/(a)"] {
        let mut body = shop.publish("other.example.com");
        body["base_path"] = json!(base);
        let answer = shop.provider.post("/v1/product-publishes", body.clone()).await;
        answer.refused(422, "invalid_path", "/base_path");
        let answer = shop.provider.put(&path, body).await;
        answer.refused(422, "invalid_path", "/base_path");
    }
}

#[rstest]
#[tokio::test]
async fn one_host_and_path_of_a_cluster_is_served_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let provider = &shop.provider;
    let with = |host: &str, path: &str| {
        let mut body = shop.publish(host);
        body["base_path"] = json!(path);
        body
    };
    let first = shop.id("product-publishes");
    for host in [&*shop.host, &shop.host.to_uppercase(), &format!("{}.", shop.host)] {
        let answer = provider.post("/v1/product-publishes", with(host, "/")).await;
        answer.refused(409, "hostname_taken", "/hostnames/0");
        assert!(answer.body.to_string().contains(first), "it names the other: {answer:?}");
    }
    // A longer base path takes its calls from a shorter one, in any order of publishing.
    for path in ["/v1", "/v1/x", "/v1/x/y", "/v2"] {
        provider.make("product-publishes", with(&shop.host, path)).await;
        let answer = provider.post("/v1/product-publishes", with(&shop.host, path)).await;
        answer.refused(409, "hostname_taken", "/hostnames/0");
    }
    for path in ["/v1/x", "/v1", "/"] {
        provider.make("product-publishes", with("b.example.com", path)).await;
    }
    // Another cluster has its own gateways.
    let cluster = plane.admin.make("clusters", json!({ "name": "second" })).await;
    let mut body = shop.publish(&shop.host);
    body["cluster_id"] = cluster["id"].clone();
    provider.make("product-publishes", body).await;
}

fn listeners(port: u16) -> Value {
    json!([{ "name": "http", "port": port, "protocol": "HTTP" }])
}

/// The same API on an inner and an outer gateway. At one port a host belongs to one gateway.
#[rstest]
#[tokio::test]
async fn one_host_is_served_on_several_gateways_of_its_tenant_at_different_ports(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let (shop, stranger) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let provider = &shop.provider;
    let gateway = async |name: &str, port: u16| {
        let body = json!({ "name": name, "listeners": listeners(port) });
        let gateway = provider.make("gateways", body).await;
        gateway["id"].as_str().unwrap().to_owned()
    };
    let on = |gateway: &str, path: &str| {
        let mut body = shop.publish(&shop.host);
        (body["gateway_id"], body["base_path"]) = (json!(gateway), json!(path));
        body
    };
    let (outer, rival) = (gateway("outer", 9090).await, gateway("rival", 8080).await);
    let there = provider.make("product-publishes", on(&outer, "/")).await;
    let answer = provider.post("/v1/product-publishes", on(&outer, "/")).await;
    answer.refused(409, "hostname_taken", "/hostnames/0");
    assert!(answer.body.to_string().contains(there["id"].as_str().unwrap()), "{answer:?}");

    // The same port: agents would serve the host for only one of the two, whatever the path.
    let before = plane.everything().await;
    for path in ["/", "/v1"] {
        let answer = provider.post("/v1/product-publishes", on(&rival, path)).await;
        answer.refused(409, "hostname_taken", "/hostnames/0");
        let told = answer.body.to_string();
        assert!(told.contains("port 8080") && told.contains(shop.id("gateways")), "{told}");
    }
    let move_to = |port: u16| json!({ "listeners": listeners(port) });
    let answer = provider.patch(&format!("/v1/gateways/{outer}"), move_to(8080)).await;
    answer.refused(409, "hostname_taken", "/listeners/0/port");
    assert!(answer.body.to_string().contains(shop.id("product-publishes")), "{answer:?}");
    assert_eq!(plane.everything().await, before, "a refusal changes nothing");
    // Another tenant's host stays refused, at any port.
    let mut body = stranger.publish(&shop.host);
    body["cluster_id"] = json!(shop.id("clusters"));
    stranger.listen_on(7070).await;
    let answer = stranger.provider.post("/v1/product-publishes", body).await;
    answer.refused(409, "hostname_taken", "/hostnames/0");

    provider.patch(&format!("/v1/gateways/{outer}"), move_to(9091)).await.ok();
    // Released on one gateway, it is served on the other, and can move.
    assert_eq!(provider.delete(&shop.path("product-publishes")).await.status, 204);
    provider.patch(&format!("/v1/gateways/{outer}"), move_to(8080)).await.ok();
}

/// A gateway that moves to a port, and a publish that would conflict there: one of the two
/// succeeds.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_moves_and_a_publish_do_not_meet_at_one_port(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    for round in 0..8 {
        let host = format!("race{round}.example.com");
        shop.provider.make("product-publishes", shop.publish(&host)).await;
        let body = json!({ "name": format!("outer{round}"), "listeners": listeners(9000) });
        let outer = shop.provider.make("gateways", body).await;
        let mut body = shop.publish(&format!("other{round}.example.com"));
        body["gateway_id"] = outer["id"].clone();
        shop.provider.make("product-publishes", body.clone()).await;
        body["hostnames"] = json!([host]);
        let path = format!("/v1/gateways/{}", outer["id"].as_str().unwrap());
        let publish = shop.provider.post("/v1/product-publishes", body);
        let moves = shop.provider.patch(&path, json!({ "listeners": listeners(8080) }));
        let (publish, moves) = tokio::join!(publish, moves);
        let done = [publish.status.is_success(), moves.status.is_success()];
        assert_eq!(done.iter().filter(|it| **it).count(), 1, "{publish:?} {moves:?}");
        let refused = if done[0] { moves } else { publish };
        assert_eq!(refused.body["code"], "hostname_taken", "{refused:?}");
    }
}

#[rstest]
#[tokio::test]
async fn another_tenants_hostname_is_taken_whatever_the_path_and_nothing_more_is_told(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    other.listen_on(8081).await;
    let before = plane.everything().await;
    let mut body = other.publish(&acme.host);
    body["cluster_id"] = json!(acme.id("clusters"));
    body["base_path"] = json!("/elsewhere");
    body["hostnames"] = json!(["free.example.com", acme.host]);
    // Every path of the host belongs to the first tenant: / overlaps all.
    let answer = other.provider.post("/v1/product-publishes", body).await;
    answer.refused(409, "hostname_taken", "/hostnames/1");
    let told = answer.body.to_string();
    assert!(
        !told.contains(acme.id("product-publishes")) && !told.contains(acme.id("tenants")),
        "{told}"
    );
    assert_eq!(plane.everything().await, before);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_publishes_of_one_place_one_wins(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let calls = (0..12).map(|index| {
        let (caller, mut body) = (shop.provider.clone(), shop.publish("race.example.com"));
        body["base_path"] = json!(if index % 2 == 0 { "/" } else { "/v1" });
        tokio::spawn(async move { caller.post("/v1/product-publishes", body).await })
    });
    let mut won = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            201 => won.push(answer.body["base_path"].clone()),
            _ => answer.refused(409, "hostname_taken", "/hostnames/0"),
        }
    }
    won.sort_by_key(|path| path.to_string());
    assert_eq!(won, [json!("/"), json!("/v1")], "one of each");
}

/// Each makes the same draft service a published one.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_first_publishes_of_a_service_all_succeed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let mut service = payment_service();
    service["name"] = json!("fresh");
    let service = shop.provider.make("api-services", service).await;
    assert_eq!(service["status"], "draft");
    let product = json!({ "name": "fresh", "api_services": [service["id"]] });
    let product = shop.provider.make("products", product).await;
    let calls = (0..8).map(|index| {
        let (caller, mut body) =
            (shop.provider.clone(), shop.publish(&format!("f{index}.example.com")));
        body["product_id"] = product["id"].clone();
        tokio::spawn(async move { caller.post("/v1/product-publishes", body).await.ok() })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let path = format!("/v1/api-services/{}", service["id"].as_str().unwrap());
    let after = shop.provider.get(&path).await.ok();
    assert_eq!((&after["status"], &after["version"]), (&json!("published"), &json!(2)));
}

#[tokio::test]
async fn a_deleted_publish_frees_its_host() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    assert_eq!(shop.provider.delete(&shop.path("product-publishes")).await.status, 204);
    shop.provider.make("product-publishes", shop.publish(&shop.host)).await;
}

#[tokio::test]
async fn a_suspended_publish_is_resumed_and_a_redeploy_leaves_it_suspended() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, path) = (&shop.provider, shop.path("product-publishes"));
    provider.step(&format!("{path}/resume")).await.refused(409, "invalid_transition", "");
    assert_eq!(provider.step(&format!("{path}/suspend")).await.ok()["status"], "suspended");
    assert_eq!(provider.step(&format!("{path}/redeploy")).await.ok()["status"], "suspended");
    provider.step(&format!("{path}/suspend")).await.refused(409, "invalid_transition", "");
    assert_eq!(provider.step(&format!("{path}/resume")).await.ok()["status"], "deploying");
}

#[tokio::test]
async fn the_gateways_listeners_admit_the_hostnames_now_and_later() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let listener = |host: &str| json!([{ "name": "http", "port": 8081, "protocol": "HTTP", "hostname": host }]);
    let narrow = json!({ "name": "narrow", "listeners": listener("Only.example.com") });
    let gateway = shop.provider.make("gateways", narrow).await;
    let mut body = shop.publish("other.example.com");
    body["gateway_id"] = gateway["id"].clone();
    let answer = shop.provider.post("/v1/product-publishes", body.clone()).await;
    answer.refused(422, "hostname_not_admitted", "/hostnames/0");
    body["hostnames"] = json!(["only.example.com"]);
    shop.provider.make("product-publishes", body).await;

    let edit = json!({ "listeners": listener("elsewhere.example.com") });
    shop.provider.patch(&shop.path("gateways"), edit).await.refused(409, "in_use", "/listeners");
}

#[tokio::test]
async fn a_refused_publish_leaves_its_services_as_they_were() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let mut service = payment_service();
    service["name"] = json!("fresh");
    let service = shop.provider.make("api-services", service).await;
    let product = json!({ "name": "fresh", "api_services": [service["id"]] });
    let product = shop.provider.make("products", product).await;
    let before = plane.everything().await;
    let mut body = shop.publish(&shop.host);
    body["product_id"] = product["id"].clone();
    let answer = shop.provider.post("/v1/product-publishes", body).await;
    answer.refused(409, "hostname_taken", "/hostnames/0");
    assert_eq!(plane.everything().await, before);
    let path = format!("/v1/api-services/{}", service["id"].as_str().unwrap());
    assert_eq!(shop.provider.get(&path).await.ok()["status"], "draft");
}

/// Otherwise the length of a variable's name would decide which of the two serves.
#[tokio::test]
async fn services_whose_routes_take_the_same_calls_are_not_published_together() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let service = |name: &str, variable: &str, priority: i32| {
        json!({
            "name": name,
            "backends": [{ "name": "b", "endpoints": [{ "host": "127.0.0.1", "port": 9000 }] }],
            "routes": [{
                "name": "item", "path": { "template": format!("/i/{{{variable}}}") },
                "backend_id": "b", "priority": priority,
            }],
        })
    };
    let one = shop.provider.make("api-services", service("one", "id", 0)).await;
    let other = shop.provider.make("api-services", service("other", "item_id", 0)).await;
    let both = json!({ "api_services": [one["id"], other["id"]] });
    shop.provider.patch(&shop.path("products"), both).await.ok();
    let redeploy = format!("{}/redeploy", shop.path("product-publishes"));
    let answer = shop.provider.step(&redeploy).await;
    answer.refused(409, "ambiguous_routes", "/api_services");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("service 'one v1'") && detail.contains("service 'other v1'"),
        "{detail}"
    );
    let path = format!("/v1/api-services/{}", other["id"].as_str().unwrap());
    shop.provider.put(&path, service("other", "item_id", 1)).await.ok();
    shop.provider.step(&redeploy).await.ok();
}
