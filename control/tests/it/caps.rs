//! Bytes of services and publishes, and a tenant's share of a cluster.

use imp_grammar::caps::{self, Cap};
use imp_grammar::features;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, shows};
use crate::control_plane::{Answer, ControlPlane, Shop};

/// A path that no other route has.
fn own_path(service: &str, index: usize) -> String {
    format!("/{}/{index}", service.replace(' ', "-"))
}

/// Each route has 16 matchers of this length; the last one's first value has its own length.
fn service(name: &str, routes: usize, length: usize, last: usize) -> Value {
    let route = |index: usize| {
        let value = |at: usize| if index + 1 == routes && at == 0 { last } else { length };
        let header = |at: usize| json!({ "name": format!("x-{at}"), "value": { "exact": "v".repeat(value(at)) } });
        json!({
            "name": format!("r{index}"), "path": { "prefix": own_path(name, index) }, "backend_id": "b",
            "headers": (0..16).map(header).collect::<Vec<_>>(),
        })
    };
    json!({
        "name": name,
        "backends": [{ "name": "b", "endpoints": [{ "host": "127.0.0.1", "port": 9000 }] }],
        "routes": (0..routes).map(route).collect::<Vec<_>>(),
    })
}

/// The actual amount, from the error's text: `262150 bytes, at most ...`.
#[track_caller]
fn found(answer: &Answer, cap: &Cap) -> usize {
    answer.refused(422, "too_large", answer.body["errors"][0]["pointer"].as_str().unwrap());
    let detail = answer.body["errors"][0]["detail"].as_str().unwrap();
    assert!(detail.ends_with(&cap.words()), "{detail}");
    let words = detail.split(": ").last().unwrap();
    words.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_service_of_the_most_bytes_is_accepted_and_one_more_is_refused() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let cap = &caps::SERVICE_BYTES;
    let post = async |length, last| {
        let body = service(&format!("s{length}"), 32, length, last);
        shop.provider.post("/v1/api-services", body).await
    };
    // The shortest values that are too long together: a part of one of them exceeds the cap.
    let mut length = 990;
    while post(length, length).await.status == 201 {
        length += 1;
    }
    let over = found(&post(length, length).await, cap) - cap.size();
    assert!(over < length, "{over}");
    // A shorter route may also need one byte less for its length.
    let mut last = length - over + 1;
    let mut answer = post(length, last).await;
    while answer.status != 201 {
        assert!(found(&answer, cap) <= cap.size() + 1, "{}", answer.body);
        last -= 1;
        answer = post(length, last).await;
    }
    let made = answer.ok();
    // An edit is measured as well.
    let path = format!("/v1/api-services/{}", made["id"].as_str().unwrap());
    let longer = service(&format!("s{length}"), 32, length, last + 1);
    let over = found(&shop.provider.put(&path, longer).await, cap) - cap.size();
    assert!(over <= 2, "{over}");
}

/// One route per operation, each with a name of its own, as tools make them of a definition.
#[tokio::test]
async fn a_service_of_the_most_routes_is_published_at_their_usual_length() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let route = |index: usize| {
        json!({
            "name": format!("repos/list-members-of-organization-{index:04}"),
            "path": { "template": format!("/orgs/{{org}}/projects/{{project_number}}/items/{{item_id}}/fields-{index:04}") },
            "methods": ["GET", "POST", "PUT", "DELETE"],
            "backend_id": "b",
        })
    };
    let mut body = service("whole", 0, 0, 0);
    body["routes"] = (0..caps::ROUTES_PER_SERVICE.size()).map(route).collect();
    let service = shop.provider.make("api-services", body).await;
    let product = json!({ "name": "whole", "api_services": [service["id"]] });
    let product = shop.provider.make("products", product).await;
    let mut publish = shop.publish("whole.example.com");
    publish["product_id"] = product["id"].clone();
    let publish = shop.provider.make("product-publishes", publish).await;

    // Former releases of agents take 1,500 routes.
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    let seen_at = format!("{}/agents/{}", shop.path("clusters"), agent.id);
    let lesser: Vec<_> =
        features::ALL.into_iter().filter(|it| *it != features::LARGE_SERVICES).collect();
    report.serves("old", &["rate_limit"], &["envoy-gateway"], &lesser, &[]).await;
    shows(&plane.admin, &seen_at, |seen| seen["agent_version"] == "old").await;
    let path = format!("/v1/product-publishes/{}/redeploy", publish["id"].as_str().unwrap());
    shop.provider.step(&path).await.refused(422, "unsupported_by_agents", "/api_services");
    shop.provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await.ok();
}

#[tokio::test]
async fn a_publish_of_the_most_bytes_is_accepted_and_one_more_is_refused() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let cap = &caps::PUBLISH_BYTES;
    let mut ids = Vec::new();
    for index in 0..4 {
        let body = service(&format!("s{index}"), 15, 1000, 1000);
        ids.push(shop.provider.make("api-services", body).await["id"].clone());
    }
    let last = shop.provider.make("api-services", service("last", LAST_ROUTES, 1000, 1000)).await;
    ids.push(last["id"].clone());
    let product = json!({ "name": "large", "api_services": ids });
    let product = shop.provider.make("products", product).await;
    let mut body = shop.publish("large.example.com");
    body["product_id"] = product["id"].clone();
    let publish = async || shop.provider.post("/v1/product-publishes", body.clone()).await;
    let path = format!("/v1/api-services/{}", last["id"].as_str().unwrap());
    let fill = fill_up(&shop, &path, cap, &publish).await;
    // Shortening may also shorten the length fields, so the edge is searched.
    let mut over = usize::MAX;
    let mut made = None;
    for more in (0..=4).rev() {
        shop.provider.put(&path, fill(more)).await.ok();
        let answer = publish().await;
        if answer.status == 201 {
            made = Some(answer.ok());
            break;
        }
        over = found(&answer, cap) - cap.size();
    }
    assert!(over <= 2, "{over}");
    let made = made.unwrap();
    // Later changes by the platform do not make it larger than it was measured.
    let path = format!("/v1/product-publishes/{}", made["id"].as_str().unwrap());
    for step in ["suspend", "resume", "redeploy"] {
        shop.provider.step(&format!("{path}/{step}")).await.ok();
    }
}

/// A route has some 16,350 bytes: 60 in the first services, these, and a part of one more reach the
/// cap.
const LAST_ROUTES: usize = 4;

/// Adds a route to the last service that brings the publish to its cap, and this many bytes more.
async fn fill_up(
    shop: &Shop,
    path: &str,
    cap: &Cap,
    publish: &impl AsyncFn() -> Answer,
) -> impl Fn(usize) -> Value {
    let make = |values: usize, length: usize| {
        let mut body = service("last", LAST_ROUTES, 1000, 1000);
        let header = |at: usize| {
            let length = if at == 0 { length } else { 1000 };
            json!({ "name": format!("x-{at}"), "value": { "exact": "v".repeat(length) } })
        };
        let route = json!({
            "name": "fill", "path": { "prefix": "/" }, "backend_id": "b",
            "headers": (0..values).map(header).collect::<Vec<_>>(),
        });
        body["routes"].as_array_mut().unwrap().push(route);
        body
    };
    for values in 1..=16 {
        shop.provider.put(path, make(values, 1000)).await.ok();
        let answer = publish().await;
        if answer.status == 201 {
            let made = format!("/v1/product-publishes/{}", answer.body["id"].as_str().unwrap());
            assert_eq!(shop.provider.delete(&made).await.status, 204);
            continue;
        }
        let over = found(&answer, cap) - cap.size();
        return move |more| make(values, 1000 - over + more);
    }
    panic!("a route of 16 KB does not fill it up");
}

/// Many routes under policies of the service, or with expressions.
fn spread(name: &str, routes: usize, header_bytes: usize, regex: bool) -> Value {
    let kind = if regex { "regex" } else { "prefix" };
    let route = |index: usize| json!({ "name": format!("r{index}"), "path": { kind: own_path(name, index) }, "backend_id": "b" });
    let header =
        |index: usize| json!({ "name": format!("x-{index}"), "value": "v".repeat(header_bytes) });
    json!({
        "name": name,
        "backends": [{ "name": "b", "endpoints": [{ "host": "127.0.0.1", "port": 9000 }] }],
        "routes": (0..routes).map(route).collect::<Vec<_>>(),
        "policies": [{
            "name": "p", "type": "request_headers",
            "config": { "set": (0..64).map(header).collect::<Vec<_>>() },
        }],
    })
}

async fn product(shop: &Shop, name: &str, services: Vec<Value>) -> Value {
    let mut ids = Vec::new();
    for service in services {
        ids.push(shop.provider.make("api-services", service).await["id"].clone());
    }
    shop.provider.make("products", json!({ "name": name, "api_services": ids })).await["id"].clone()
}

#[rstest]
#[tokio::test]
async fn a_tenant_has_its_share_of_a_cluster_and_no_more(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    // 64 KB of headers on each of 50 routes: 3.7 MB of 64 as a gateway holds it, 0.1 as it is sent.
    let large = product(&shop, "large", vec![spread("large", 50, 1000, false)]).await;
    let publish = async |product: &Value, host: &str, cluster: &Value| {
        let mut body = shop.publish(host);
        body["product_id"] = product.clone();
        body["cluster_id"] = cluster.clone();
        shop.provider.post("/v1/product-publishes", body).await
    };
    let cluster = json!(shop.id("clusters"));
    let mut made = Vec::new();
    for index in 0..18 {
        made.push(publish(&large, &format!("h{index}.example.com"), &cluster).await.ok());
    }
    publish(&large, "h18.example.com", &cluster).await.refused(409, "cap_reached", "/cluster_id");
    let elsewhere = plane.admin.make("clusters", json!({ "name": "elsewhere" })).await;
    publish(&large, "h18.example.com", &elsewhere["id"]).await.ok();
    // A replaced revision does not count twice; a removed publish does not count at all.
    let path =
        |publish: &Value| format!("/v1/product-publishes/{}", publish["id"].as_str().unwrap());
    shop.provider.step(&format!("{}/redeploy", path(&made[0]))).await.ok();
    assert_eq!(shop.provider.delete(&path(&made[0])).await.status, 204);
    publish(&large, "h19.example.com", &cluster).await.ok();

    // Exactly as many expressions as the cap allows, in publishes of 250.
    let many = |name: &str| (0..5).map(|n| spread(&format!("{name}{n}"), 50, 1, true)).collect();
    let regexes = product(&shop, "regexes", many("regexes")).await;
    let one = product(&shop, "one", vec![spread("one", 1, 1, true)]).await;
    let cluster = &elsewhere["id"];
    for index in 0..4 {
        publish(&regexes, &format!("r{index}.example.com"), cluster).await.ok();
    }
    publish(&one, "r4.example.com", cluster).await.refused(409, "cap_reached", "/cluster_id");
}

#[tokio::test]
async fn a_bomb_is_refused_before_it_costs_anything() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    for (expressions, code) in [(200, "too_many"), (2000, "too_many")] {
        let rule = |i: usize| json!({ "name": format!("x-{i}"), "value": { "regex": format!(r"\w{{90}}{i}") } });
        let mut bomb = spread("bomb", 1, 1, false);
        bomb["routes"][0]["headers"] = json!((0..expressions).map(rule).collect::<Vec<_>>());
        let began = std::time::Instant::now();
        let answer = shop.provider.post("/v1/api-services", bomb).await;
        let refused = answer.body["errors"][0]["code"].as_str().unwrap().to_owned();
        assert!(refused.starts_with(code), "{:#}", answer.body);
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
    }
}
