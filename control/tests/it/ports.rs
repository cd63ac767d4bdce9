//! Claims on a cluster's ports: shared if listeners agree, and only where the operator lets
//! gateways listen.

use imp_control::config::ClaimFlags;
use imp_core::gateway::{Gateway, ListenerProtocol, ListenerSettings};
use imp_core::scope::TenantScope;
use imp_core::{ClusterId, GatewayId};
use imp_store::Record as _;
use imp_store::listener_port::{self, Port};
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Shop};

fn listeners(port: u16) -> Value {
    json!({ "listeners": [{ "name": "http", "port": port, "protocol": "HTTP" }] })
}

fn named(name: &str, port: u16) -> Value {
    json!({ "name": name, "listeners": listeners(port)["listeners"] })
}

async fn gateway(plane: &ControlPlane, shop: &Shop) -> Gateway {
    let id: GatewayId = shop.id("gateways").parse().unwrap();
    let scope = TenantScope::platform();
    Gateway::get(&plane.running.store, &scope, id).await.unwrap().unwrap()
}

fn cluster(shop: &Shop) -> ClusterId {
    shop.id("clusters").parse().unwrap()
}

async fn claimed(plane: &ControlPlane, gateway: GatewayId, cluster: ClusterId) -> Vec<u16> {
    let mut tx = plane.running.store.begin().await.unwrap();
    let ports = listener_port::claimed_by(&mut tx, gateway, cluster).await.unwrap();
    tx.rollback().await.unwrap();
    ports.into_iter().map(|it| it.port).collect()
}

/// An older gateway of another tenant moves to a port in use, and would get it after the next
/// restart of Envoy.
#[rstest]
#[tokio::test]
async fn where_agents_cannot_share_a_port_it_is_one_gateways(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let flags = ClaimFlags { share_ports: false, ..ClaimFlags::in_process() };
    let plane = ControlPlane::ruled(kind, flags).await;
    let (other, acme) = (Shop::open(&plane, "other").await, Shop::open(&plane, "acme").await);
    other.listen_on(9000).await;
    let mut body = other.publish("here.example.com");
    body["cluster_id"] = json!(acme.id("clusters"));
    other.provider.make("product-publishes", body).await;
    let own = acme.provider.make("gateways", named("own", 8080)).await;
    let before = plane.everything().await;
    let answer = other.provider.patch(&other.path("gateways"), listeners(8080)).await;
    answer.refused(409, "port_taken", "/listeners/0/port");
    let told = answer.body.to_string();
    assert!(!told.contains(acme.id("gateways")) && !told.contains(acme.id("tenants")), "{told}");
    let mut body = acme.publish("twice.example.com");
    body["gateway_id"] = own["id"].clone();
    let answer = acme.provider.post("/v1/product-publishes", body.clone()).await;
    answer.refused(409, "port_taken", "/gateway_id");
    assert_eq!(plane.everything().await, before);
    // Another cluster has ports of its own.
    body["cluster_id"] =
        plane.admin.make("clusters", json!({ "name": "spare" })).await["id"].take();
    acme.provider.make("product-publishes", body).await;
    // Once released, the port is free for anyone.
    assert_eq!(acme.provider.delete(&acme.path("product-publishes")).await.status, 204);
    other.listen_on(8080).await;
}

#[rstest]
#[tokio::test]
async fn gateways_of_two_tenants_share_a_port_when_they_agree_and_are_refused_when_not(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let here = cluster(&acme);
    other.listen_on(9000).await;
    let mut body = other.publish("here.example.com");
    body["cluster_id"] = json!(here);
    other.provider.make("product-publishes", body).await;

    // A port whose listeners use another protocol.
    let first = gateway(&plane, &acme).await;
    let https = Port {
        port: 8443,
        settings: ListenerSettings {
            protocol: ListenerProtocol::Https,
            gateway: Default::default(),
        },
    };
    let http = Port::all(&first.spec).remove(0);
    let mut tx = plane.running.store.begin().await.unwrap();
    listener_port::replace(&mut tx, &first, here, &[http, https]).await.unwrap();
    tx.commit().await.unwrap();

    let before = plane.everything().await;
    let answer = other.provider.patch(&other.path("gateways"), listeners(8443)).await;
    answer.refused(409, "port_taken", "/listeners/0/port");
    let told = answer.body.to_string();
    assert!(told.contains("protocol"), "{told}");
    assert!(!told.contains(acme.id("gateways")) && !told.contains(acme.id("tenants")), "{told}");
    let second = other.provider.make("gateways", named("second", 8443)).await;
    let mut body = other.publish("late.example.com");
    (body["gateway_id"], body["cluster_id"]) = (second["id"].clone(), json!(here));
    let answer = other.provider.post("/v1/product-publishes", body.clone()).await;
    answer.refused(409, "port_taken", "/gateway_id");
    let at = format!("/v1/gateways/{}", second["id"].as_str().unwrap());
    assert_eq!(other.provider.delete(&at).await.status, 204);
    let mut after = plane.everything().await;
    after["outbox"] = before["outbox"].clone();
    assert_eq!(after, before, "a refusal changes nothing");

    // The port that speaks the same is shared.
    other.listen_on(8080).await;
    let guest: GatewayId = other.id("gateways").parse().unwrap();
    assert_eq!(claimed(&plane, guest, here).await, [8080]);
    assert_eq!(claimed(&plane, first.id, here).await, [8080, 8443]);
}

/// One listener serves a port for all tenants: what it does to calls, the first one decides, and on ports
/// that everyone needs nobody does.
#[rstest]
#[tokio::test]
async fn settings_of_a_port_hold_for_all_who_share_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let here = acme.id("clusters");
    let publish = |gateway: &Value, host: &str| {
        let mut body = other.publish(host);
        (body["gateway_id"], body["cluster_id"]) = (gateway["id"].clone(), json!(here));
        other.provider.post("/v1/product-publishes", body)
    };
    for (port, settings, setting) in [
        (80, json!({ "trusted_hops": 8 }), "trusted_hops"),
        (443, json!({ "http10": false }), "http10"),
        (8080, json!({ "escaped_slash": "keep" }), "escaped_slash"),
        (8443, json!({ "underscore_headers": "refuse" }), "underscore_headers"),
    ] {
        let mut body = named(&format!("odd{port}"), port);
        body["settings"] = settings.clone();
        let odd = other.provider.make("gateways", body).await;
        let answer = publish(&odd, &format!("odd{port}.example.com")).await;
        answer.refused(409, "default_settings_only", "/gateway_id");
        assert!(answer.body.to_string().contains(setting), "{answer:?}");
        // Nor is it a way there that the gateway is published first.
        acme.listen_on(port).await;
        let change = json!({ "settings": settings });
        let answer = acme.provider.patch(&acme.path("gateways"), change).await;
        answer.refused(409, "default_settings_only", &format!("/settings/{setting}"));
    }

    // On another port they agree with who came first, and no one of them changes it.
    let odd = |name: &str, hops: u32| {
        let mut body = named(name, 9000);
        body["settings"] = json!({ "trusted_hops": hops });
        other.provider.make("gateways", body)
    };
    let (first, same, apart) = (odd("first", 2).await, odd("same", 2).await, odd("apart", 3).await);
    publish(&first, "first.example.com").await.ok();
    publish(&same, "same.example.com").await.ok();
    let answer = publish(&apart, "apart.example.com").await;
    answer.refused(409, "port_taken", "/gateway_id");
    assert!(answer.body.to_string().contains("trusted_hops"), "{answer:?}");
    let path = format!("/v1/gateways/{}", first["id"].as_str().unwrap());
    let edit = json!({ "settings": { "trusted_hops": 3 } });
    let answer = other.provider.patch(&path, edit.clone()).await;
    answer.refused(409, "port_taken", "/listeners/0/port");
    let beside = format!("/v1/gateways/{}", same["id"].as_str().unwrap());
    other.provider.patch(&beside, listeners(9001)).await.ok();
    other.provider.patch(&path, edit).await.ok();
    let answer = other.provider.patch(&path, listeners(8080)).await;
    answer.refused(409, "default_settings_only", "/settings/trusted_hops");
}

#[rstest]
#[tokio::test]
async fn a_gateway_listens_only_where_the_operator_lets_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let reserved_ports = vec!["18000".to_owned(), "15000-15010".to_owned()];
    let flags = ClaimFlags { reserved_ports, ..ClaimFlags::in_process() };
    let plane = ControlPlane::ruled(kind, flags).await;
    let shop = Shop::open(&plane, "acme").await;
    let provider = &shop.provider;
    // A template may use any ports but the platform's own; the cluster decides at publishing.
    let low = provider.make("gateways", named("low", 22)).await;
    let before = plane.everything().await;
    let mut body = shop.publish("low.example.com");
    body["gateway_id"] = low["id"].clone();
    let answer = provider.post("/v1/product-publishes", body.clone()).await;
    answer.refused(422, "port_not_allowed", "/gateway_id");
    for port in [22, 79, 1023, 18000, 15003] {
        let answer = provider.patch(&shop.path("gateways"), listeners(port)).await;
        answer.refused(422, "port_not_allowed", "/listeners/0/port");
    }
    let answer = provider.post("/v1/gateways", named("own", 18000)).await;
    answer.refused(422, "port_not_allowed", "/listeners/0/port");
    assert_eq!(plane.everything().await, before);

    // The operator opens a port, and cannot close one that is in use.
    let ranges =
        |first: u16, last: u16| json!({ "port_ranges": [{ "first": first, "last": last }] });
    let at = shop.path("clusters");
    let usual = plane.admin.get(&at).await.ok()["port_ranges"].clone();
    assert_eq!(usual[0], json!({ "first": 80, "last": 80 }));
    plane.admin.patch(&at, ranges(20, 30)).await.refused(409, "in_use", "/port_ranges");
    plane.admin.patch(&at, ranges(22, 8080)).await.ok();
    provider.make("product-publishes", body).await;
    plane.admin.patch(&at, ranges(80, 9000)).await.refused(409, "in_use", "/port_ranges");
    let answer = plane.admin.patch(&at, ranges(9000, 8000)).await;
    answer.refused(422, "out_of_range", "/port_ranges/0/last");
    plane.admin.patch(&at, ranges(0, 8080)).await.refused(
        400,
        "invalid_value",
        "/port_ranges/0/first",
    );
    provider.patch(&at, ranges(1, 8080)).await.refused(403, "forbidden", "");
}

#[rstest]
#[tokio::test]
async fn a_gateway_claims_its_ports_where_it_has_publishes_and_as_long(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    other.listen_on(8081).await;
    let id: GatewayId = acme.id("gateways").parse().unwrap();
    let (here, there) = (cluster(&acme), cluster(&other));
    assert_eq!(claimed(&plane, id, there).await, [0_u16; 0]);
    let mut body = acme.publish("there.example.com");
    body["cluster_id"] = json!(there);
    let second = acme.provider.make("product-publishes", body).await;
    acme.listen_on(9000).await;
    assert_eq!(claimed(&plane, id, here).await, [9000]);
    assert_eq!(claimed(&plane, id, there).await, [9000]);
    let third = acme.provider.make("product-publishes", acme.publish("c.example.com")).await;
    let delete = async |publish: &Value| {
        let path = format!("/v1/product-publishes/{}", publish["id"].as_str().unwrap());
        assert_eq!(acme.provider.delete(&path).await.status, 204);
    };
    delete(&second).await;
    assert_eq!(claimed(&plane, id, there).await, [0_u16; 0]);
    delete(&third).await;
    assert_eq!(claimed(&plane, id, here).await, [9000], "another publish is left");
}

/// Listeners change while publishes come and go: claims always match listeners.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_follow_listeners_and_publishes_that_change_at_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let id: GatewayId = shop.id("gateways").parse().unwrap();
    let second = plane.admin.make("clusters", json!({ "name": "second" })).await;
    let second: ClusterId = second["id"].as_str().unwrap().parse().unwrap();
    for round in 0..5_u16 {
        let calls: Vec<_> = (0..20_u16)
            .map(|index| {
                let (caller, path) = (shop.provider.clone(), shop.path("gateways"));
                let mut body = shop.publish(&format!("h{round}-{index}.example.com"));
                body["cluster_id"] = json!(second);
                tokio::spawn(async move {
                    if index % 4 == 0 {
                        return caller.patch(&path, listeners(9000 + index)).await;
                    }
                    let made = caller.post("/v1/product-publishes", body).await.ok();
                    let path = format!("/v1/product-publishes/{}", made["id"].as_str().unwrap());
                    caller.delete(&path).await
                })
            })
            .collect();
        for call in calls {
            let answer = call.await.unwrap();
            let fine = [200, 204, 412].contains(&answer.status.as_u16());
            assert!(fine, "{} {:#}", answer.status, answer.body);
        }
        let listens: Vec<u16> =
            gateway(&plane, &shop).await.spec.listeners.iter().map(|it| it.port).collect();
        assert_eq!(claimed(&plane, id, cluster(&shop)).await, listens);
        assert_eq!(claimed(&plane, id, second).await, [0_u16; 0], "all publishes there are gone");
    }
}

#[tokio::test]
async fn a_listeners_hostname_is_stored_in_its_canonical_form() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let mut body = named("spelled", 8081);
    body["listeners"][0]["hostname"] = json!("Shop.Example.ORG.");
    let made = shop.provider.make("gateways", body.clone()).await;
    assert_eq!(made["listeners"][0]["hostname"], "shop.example.org");
    let path = format!("/v1/gateways/{}", made["id"].as_str().unwrap());
    body["listeners"][0]["hostname"] = json!("SHOP.example.org");
    let same = shop.provider.put(&path, body).await.ok();
    assert_eq!(same["version"], 1, "another spelling of the same is no change");
    let mut publish = shop.publish("shop.example.org");
    publish["gateway_id"] = made["id"].clone();
    shop.provider.make("product-publishes", publish.clone()).await;
    let path = shop.path("product-publishes");
    let spelled = json!({ "hostnames": [shop.host.to_uppercase()] });
    assert_eq!(shop.provider.patch(&path, spelled).await.ok()["version"], 1);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_gateways_that_race_for_a_port_one_gets_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let flags = ClaimFlags { share_ports: false, ..ClaimFlags::in_process() };
    let plane = ControlPlane::ruled(kind, flags).await;
    let shop = Shop::open(&plane, "acme").await;
    let mut calls = Vec::new();
    for index in 0..20 {
        let gateway = shop.provider.make("gateways", named(&format!("g{index}"), 9100)).await;
        let (caller, mut body) = (shop.provider.clone(), shop.publish("x"));
        body["hostnames"] = json!([format!("g{index}.example.com")]);
        body["gateway_id"] = gateway["id"].clone();
        calls.push((caller, body));
    }
    let calls = calls.into_iter().map(|(caller, body)| {
        tokio::spawn(async move { caller.post("/v1/product-publishes", body).await })
    });
    let mut won = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            201 => won += 1,
            _ => answer.refused(409, "port_taken", "/gateway_id"),
        }
    }
    assert_eq!(won, 1);
}
