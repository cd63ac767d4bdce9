//! Limits on one request, and on the rate of requests.

use std::time::{Duration, Instant};

use bytes::Bytes;
use imp_control::app::{App, Running};
use imp_control::config::Config;
use imp_grammar::caps;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::control_plane::{Answer, Caller, ControlPlane, PROVIDER, Shop};

async fn post_text(caller: &Caller, path: &str, text: String) -> Answer {
    let request = caller.request(Method::POST, path).header("content-type", "application/json");
    Caller::finish(request.body(text)).await
}

#[tokio::test]
async fn a_body_of_the_most_bytes_is_read_and_one_more_is_refused() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let padded = |name: &str, bytes: usize| {
        let body = json!({ "name": name }).to_string();
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let most = caps::BODY_BYTES.size();
    assert_eq!(post_text(&shop.provider, "/v1/customers", padded("a", most)).await.status, 201);
    let answer = post_text(&shop.provider, "/v1/customers", padded("b", most + 1)).await;
    answer.refused(413, "too_large", "");
    // Without a length in its head.
    for (name, bytes, status) in [("c", most, 201), ("d", most + 1, 413)] {
        let text = Bytes::from(padded(name, bytes));
        let pieces = (0..bytes).step_by(50_000);
        let frames = pieces.map(move |at| {
            let end = bytes.min(at + 50_000);
            Ok::<_, std::io::Error>(http_body::Frame::data(text.slice(at..end)))
        });
        let stream = http_body_util::StreamBody::new(futures::stream::iter(frames));
        let request = shop.provider.request(Method::POST, "/v1/customers");
        let request = request.header("content-type", "application/json");
        let body = reqwest::Body::wrap(stream);
        let answer = Caller::finish(request.body(body)).await;
        assert_eq!(answer.status, status, "{:#}", answer.body);
    }
}

#[tokio::test]
async fn a_body_of_the_greatest_depth_is_read_and_one_more_is_refused() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let nested = |depth: usize| {
        format!(r#"{{"name":"a","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    let most = caps::JSON_DEPTH.size();
    let answer = post_text(&shop.provider, "/v1/customers", nested(most)).await;
    answer.refused(400, "unknown_field", "/x");
    for depth in [most + 1, 100_000] {
        let answer = post_text(&shop.provider, "/v1/customers", nested(depth)).await;
        answer.refused(400, "malformed_json", "");
    }
}

#[tokio::test]
async fn as_many_query_parameters_are_read_and_one_more_is_refused() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = |count: usize| {
        let query: Vec<_> = (0..count).map(|i| format!("a{i}=1")).collect();
        format!("/v1/customers?{}", query.join("&"))
    };
    let most = caps::QUERY_PARAMETERS.size();
    shop.provider.get(&path(most)).await.refused(400, "unknown_parameter", "");
    shop.provider.get(&path(most + 1)).await.refused(400, "too_many_parameters", "");
    let began = Instant::now();
    shop.provider.get(&path(3_000)).await.refused(400, "too_many_parameters", "");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_page_ends_at_its_items_and_at_its_bytes() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    // Each is some 230 KB of JSON.
    let routes: Vec<Value> = (0..14)
        .map(|route| {
            let header = |i: usize| json!({ "name": format!("x-{i}"), "value": { "exact": "v".repeat(1000) } });
            json!({
                "name": format!("r{route}"), "path": { "prefix": format!("/{route}") }, "backend_id": "b",
                "headers": (0..16).map(header).collect::<Vec<_>>(),
            })
        })
        .collect();
    for index in 0..12 {
        let service = json!({
            "name": format!("large {index}"), "routes": routes,
            "backends": [{ "name": "b", "endpoints": [{ "host": "127.0.0.1", "port": 1 }] }],
        });
        shop.provider.make("api-services", service).await;
    }
    let (mut names, mut next) = (Vec::new(), "/v1/api-services?page_size=200".to_owned());
    let mut pages = 0;
    loop {
        let page = shop.provider.get(&next).await.ok();
        let bytes = page.to_string().len();
        assert!(bytes <= caps::PAGE_BYTES.size() + 200, "{bytes}");
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        pages += 1;
        let Some(token) = page["next_page_token"].as_str() else { break };
        assert!(bytes > caps::PAGE_BYTES.size() / 2, "a short page in the middle: {bytes}");
        next = format!("/v1/api-services?page_size=200&page_token={token}");
    }
    let expected: Vec<_> = (0..12).map(|index| format!("large {index}")).collect();
    assert_eq!((&names[..1], &names[1..]), (&["payment-service".to_owned()][..], &expected[..]));
    assert!(pages >= 2, "{pages}");

    for index in 0..caps::PAGE_ITEMS.size() {
        shop.provider.make("customers", json!({ "name": format!("c{index}") })).await;
    }
    let length = async |size: usize| {
        let page = shop.provider.get(&format!("/v1/customers?page_size={size}")).await.ok();
        (page["items"].as_array().unwrap().len(), page["next_page_token"].is_string())
    };
    let most = caps::PAGE_ITEMS.size();
    assert_eq!(length(most).await, (most, true));
    assert_eq!(length(most + 1).await, (most, true), "more are asked for in vain");
}

/// A control plane with rates, its admin, and a tenant's first token.
async fn with_rates(token: u32, tenant: u32) -> (TempDir, Running, Caller, String, Caller) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = TempDir::new().unwrap();
    let base = Config::in_process(dir.path());
    let config = Config { token_rate: token, tenant_rate: tenant, ..base };
    let running = App::start(config).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let base = format!("http://{}", running.rest_addr);
    let admin = Caller { http, base, token: running.admin_token.clone() };
    let made = admin.make("tenants", json!({ "name": "a", "slug": "a" })).await;
    let id = made["id"].as_str().unwrap().to_owned();
    let caller = token_of(&admin, &id).await;
    (dir, running, admin, id, caller)
}

async fn token_of(admin: &Caller, tenant: &str) -> Caller {
    let body = json!({ "name": "t", "roles": PROVIDER, "tenant_id": tenant });
    let made = admin.make("api-tokens", body).await;
    admin.with(made["token"].as_str())
}

/// How many of a hundred concurrent requests are served; the others are refused with a time to
/// retry.
async fn served(callers: &[&Caller]) -> usize {
    let asked = (0..100).map(|n| callers[n % callers.len()].get("/v1/me"));
    let answers = futures::future::join_all(asked).await;
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        refused.refused(429, "rate_limited", "");
        assert_eq!(refused.header("retry-after"), "1");
    }
    answers.iter().filter(|answer| answer.status == 200).count()
}

#[tokio::test]
async fn a_token_that_asks_too_fast_is_told_when_to_come_again() {
    let (_dir, _running, admin, tenant, first) = with_rates(10, 1_000_000).await;
    let second = token_of(&admin, &tenant).await;
    let began = Instant::now();
    let most = |began: Instant| 20 + (began.elapsed().as_millis() / 100) as usize + 1;
    let count = served(&[&first]).await;
    assert!((20..=most(began)).contains(&count), "{count}");
    assert_eq!(second.get("/v1/me").await.status, 200, "another token has its own rate");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(first.get("/v1/me").await.status, 200, "in a second there is room again");
}

#[tokio::test]
async fn many_tokens_of_a_tenant_share_its_rate() {
    let (_dir, _running, admin, tenant, first) = with_rates(1_000_000, 10).await;
    let second = token_of(&admin, &tenant).await;
    let other = admin.make("tenants", json!({ "name": "b", "slug": "b" })).await;
    let other = token_of(&admin, other["id"].as_str().unwrap()).await;
    let began = Instant::now();
    let count = served(&[&first, &second]).await;
    let most = 20 + (began.elapsed().as_millis() / 100) as usize + 1;
    assert!((20..=most).contains(&count), "{count}");
    assert_eq!(other.get("/v1/me").await.status, 200, "another tenant has its own rate");
}

#[tokio::test]
async fn what_is_large_counts_as_many_requests() {
    let (_dir, _running, admin, tenant, first) = with_rates(1_000_000, 10).await;
    let description = "d".repeat(3_000);
    let routes: Vec<_> = (0..1_200)
        .map(|n| json!({ "name": format!("r{n}"), "path": { "exact": format!("/{n}") }, "backend_id": "b" }))
        .collect();
    let service = |name: &str, routes: &[Value]| {
        let backend = json!({ "name": "b", "endpoints": [{ "host": "127.0.0.1", "port": 9 }] });
        json!({ "name": name, "description": description, "backends": [backend], "routes": routes })
    };
    let began = Instant::now();
    // Small ones count once.
    first.post("/v1/api-services", service("small", &routes[..1])).await.ok();
    let large = service("large", &routes);
    let counts = large.to_string().len() / caps::RATE_BYTES.size();
    assert!(counts >= 4, "{counts}");
    first.post("/v1/api-services", large).await.ok();
    // It was read, and returned in the answer.
    let second = token_of(&admin, &tenant).await;
    let count = served(&[&first, &second]).await;
    let refilled = (began.elapsed().as_millis() / 100) as usize + 1;
    assert!(count + 2 + 2 * counts <= 20 + refilled, "{count} of 20 and {refilled}");
}

#[test]
fn the_rates_of_the_flags_are_the_table() {
    use clap::Parser as _;
    let config = imp_control::config::Cli::parse_from(["imp-control"]).config;
    assert_eq!(u64::from(config.token_rate), caps::TOKEN_RATE.value);
    assert_eq!(u64::from(config.tenant_rate), caps::TENANT_RATE.value);
}

/// A request whose body does not arrive.
async fn open_request(plane: &ControlPlane, caller: &Caller, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(plane.running.rest_addr).await.unwrap();
    let token = caller.token.as_deref().unwrap();
    let head = format!(
        "POST /v1/customers HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn bodies_in_flight_are_bounded() {
    let plane = ControlPlane::start().await;
    let (shop, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    // Each counts four times: it is read, parsed and written again. Two use up the tenant's share.
    let most = caps::BODY_BYTES.size();
    assert_eq!(2 * 4 * most, caps::TENANT_BYTES_IN_FLIGHT.size());
    let one = open_request(&plane, &shop.provider, most).await;
    let mut two = open_request(&plane, &shop.provider, most).await;
    // Until both have arrived, others are served.
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = loop {
        let answer = shop.provider.get("/v1/customers").await;
        if answer.status != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "nothing is refused");
    };
    refused.refused(429, "too_much_at_once", "");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(other.provider.get("/v1/customers").await.status, 200, "another tenant goes on");
    drop(one);
    let body = json!({ "name": "came at last" }).to_string();
    two.write_all(format!("{body}{}", " ".repeat(most - body.len())).as_bytes()).await.unwrap();
    let mut start = [0; 12];
    two.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 201");
    assert_eq!(shop.provider.get("/v1/customers").await.status, 200);
}

#[tokio::test]
async fn answers_let_browsers_do_nothing_and_show_the_documentation_as_it_is() {
    let plane = ControlPlane::start().await;
    for (path, script) in [
        ("/v1/me", false),
        ("/nothing", false),
        ("/openapi.json", false),
        ("/docs/", true),
        ("/docs/swagger-ui.css", true),
    ] {
        let answer = plane.nobody().get(path).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(policy.contains("script-src 'self'"), script, "{path}: {policy}");
        assert!(!policy.contains("script-src 'self' 'unsafe"), "{path}: {policy}");
    }
    // The page works under its policy: it has no inline script.
    let page = plane.admin.http.get(format!("{}/docs/", plane.admin.base)).send().await.unwrap();
    let page = page.text().await.unwrap();
    for script in page.split("<script").skip(1) {
        let (attributes, rest) = script.split_once('>').unwrap();
        assert!(attributes.contains("src="), "{attributes}");
        assert!(rest.trim_start().starts_with("</script"), "{rest}");
    }
}
