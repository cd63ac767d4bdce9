//! Callers that lie, and tenants that reach for others' paths.

use imp_proto::config as pb;
use imp_translate::{Layout, ir};

use super::rig::Rig;
use super::{HOST, rich};
use crate::fixtures::{self, header, parsed, request_headers, service};

/// `a` at /v1 and `b` at /v11, of one host; each takes everything under its base path.
async fn neighbours() -> Rig {
    neighbours_at(ir::Edge::default()).await
}

async fn neighbours_at(edge: ir::Edge) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let gateway = ir::Gateway { edge, ..fixtures::parsed_gateway(rig.port) };
    let delta = rig.assembly.set_gateway(gateway);
    rig.apply(&delta);
    for (id, base_path) in [("a", "/v1"), ("b", "/v11")] {
        set(&mut rig, at(id, base_path)).await;
    }
    rig
}

fn at(id: &str, base_path: &str) -> pb::Publish {
    pb::Publish { base_path: base_path.into(), ..fixtures::publish(id, HOST, 1) }
}

async fn set(rig: &mut Rig, mut publish: pb::Publish) {
    service(&mut publish).backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active(&publish.id).await;
    assert_eq!(rig.refusals, []);
}

#[tokio::test]
async fn no_spelling_of_a_path_is_judged_as_one_publish_and_served_as_another() {
    use ir::EscapedSlash::{Decode, Keep, Refuse};
    for escaped_slash in [Refuse, Keep, Decode] {
        let rig = neighbours_at(ir::Edge { escaped_slash, ..ir::Edge::default() }).await;
        no_spelling_is_confused(&rig).await;
    }
}

/// The path as a server resolves it that decodes once more.
fn walked(path: &str) -> String {
    let lower = path.to_lowercase().replace("%2f", "/").replace("%5c", "/").replace("%2e", ".");
    let mut segments: Vec<&str> = Vec::new();
    for segment in lower.split('/') {
        match segment.split(';').next() {
            Some("" | ".") => {}
            Some("..") => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

async fn no_spelling_is_confused(rig: &Rig) {
    let spellings = [
        "/v1/../v11/x",
        "/v1/./../v11/x",
        "/v1/%2e%2e/v11/x",
        "/v1/.%2e/v11/x",
        "/v1/..;/v11/x",
        "/v1/..\\v11/x",
        "/v1%2f..%2fv11/x",
        "/v1/a%2F..%2F../v11/x",
        "/v1/%2e%2e%2fv11/x",
        "/v1/..%2F%2e%2e/v11/x",
        "/v1/x%2f..",
        "/v1/x%2f.",
        "/v1/x%2F",
        "/v1/%2F/../v11/x",
        "/v1/%2F%2fv11",
        "/v1%2fx",
        "/v1/x%2fy",
        "/v1/..;%2fv11/x",
        "/v1/.%2f.%2f../v11",
        "/v1/..%2fv11/x",
        "/v1/..%5cv11/x",
        "//v11/x",
        "/v1//../v11/x",
        "/v1/%76%31/../../v11/x",
        "/%761/x",
        "/v1\u{0}/x",
        "/v1/x%00",
        "/v1#/../v11/x",
        "/V1/../v11/x",
    ];
    for path in spellings {
        rig.stub.checks.lock().unwrap().clear();
        let answer = rig.with_key(HOST, &format!("GET {path}")).await;
        let judged = rig.stub.checks.lock().unwrap().pop();
        match answer.status {
            200 => {
                let base = if judged.unwrap()["publish"] == "a" { "/v1/" } else { "/v11/" };
                let seen = answer.body.split(' ').nth(1).unwrap();
                let whole = format!("{seen}/");
                assert!(whole.starts_with(base), "{path}: judged as {base}, served as {seen}");
                let walked = walked(seen) + "/";
                assert!(walked.starts_with(base), "{path}: judged as {base}, read as {walked}");
                assert!(!seen.contains("/../") && !seen.contains("//"), "{path}: {seen}");
            }
            400 | 404 => assert_eq!(judged, None, "{path}: {answer:?}"),
            other => panic!("{path}: {other}"),
        }
    }
}

/// Anybody may call `/`; the deeper base paths ask for a key. With `more` base paths there is a tree.
async fn behind_an_open_door(edge: ir::Edge, more: usize) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let gateway = ir::Gateway { edge, ..fixtures::parsed_gateway(rig.port) };
    let delta = rig.assembly.set_gateway(gateway);
    rig.apply(&delta);
    let open = pb::Publish { auth_mode: pb::publish::AuthMode::None.into(), ..at("open", "/") };
    set(&mut rig, open).await;
    let delimited = "/x!$&'()*+,=:@y/z";
    for (id, base_path) in [("v1", "/v1"), ("deep", "/v1/a/b"), ("odd", delimited)] {
        set(&mut rig, at(id, base_path)).await;
    }
    for index in 0..more {
        set(&mut rig, at(&format!("m{index}"), &format!("/more-{index}"))).await;
    }
    rig
}

/// Paths that an upstream which decodes, or cuts at `;`, reads as below a base path that asks for a key.
#[tokio::test]
async fn no_spelling_of_a_base_path_passes_without_its_key() {
    use ir::EscapedSlash::{Decode, Keep, Refuse};
    let mut spellings: Vec<String> = [
        "/v1%2Fpets",
        "/v1%2fpets/x",
        "/v1/a%2Fb",
        "/v1%2Fa/b/c",
        "/v1%2fa%2Fb%2fc",
        "/v1;x/pets",
        "/v1;x",
        "/v1;",
        "/v1;%2Fpets",
        "/;x/v1/pets",
        "/.;/v1/pets",
        "/v1/a;p=1/b",
        "/%76%31;x/pets",
        "/v1%2Fpets?x",
    ]
    .map(str::to_owned)
    .to_vec();
    for sign in "!$&'()*+,=:@".chars() {
        for hex in [format!("%{:02X}", u32::from(sign)), format!("%{:02x}", u32::from(sign))] {
            spellings.push("/x!$&'()*+,=:@y/z/pets".replace(sign, &hex));
        }
    }
    for (escaped_slash, more) in [(Refuse, 0), (Keep, 0), (Keep, 9), (Decode, 0)] {
        let edge = ir::Edge { escaped_slash, ..ir::Edge::default() };
        let rig = behind_an_open_door(edge, more).await;
        let judged = async |path: &str| judged(&rig, path).await;
        for path in &spellings {
            let by = judged(path).await;
            assert_ne!(by.as_deref(), Some("open"), "{escaped_slash:?} {more} {path}");
        }
        let told = async |path: &str| rig.call(HOST, &format!("GET {path}")).await.told();
        assert_eq!(told("/v1;x/pets").await, (404, "no_route".into()));
        if escaped_slash == Keep {
            assert_eq!(told("/v1%2Fpets").await, (400, "escaped_slash".into()));
            assert_eq!(judged("/v1/pets%2F7").await.as_deref(), Some("v1"), "its own character");
            assert_eq!(judged("/other%2Fv1").await.as_deref(), Some("open"));
        }
        for path in ["/", "/v10", "/v1x;y/z", "/v10?x=%2F;", "/x%3Ay", "/other?u=/v1%2Fpets;x"] {
            assert_eq!(judged(path).await.as_deref(), Some("open"), "{path}");
        }
        for path in ["/v1/pets", "/v1?x=%2F;", "/v1/pets;x", "/%761/a/c;%2525"] {
            assert_eq!(judged(path).await.as_deref(), Some("v1"), "{path}");
        }
        assert_eq!(judged("/v1/a/b").await.as_deref(), Some("deep"));
        assert_eq!(judged("/x!$&'()*+,=:@y/z/pets").await.as_deref(), Some("odd"));
    }
}

/// The publish that serves a call; None: it is refused.
async fn judged(rig: &Rig, path: &str) -> Option<String> {
    rig.stub.checks.lock().unwrap().clear();
    let answer = rig.with_key(HOST, &format!("GET {path}")).await;
    let judged = rig.stub.checks.lock().unwrap().pop();
    assert_eq!(answer.status == 200, judged.is_some(), "{path}: {answer:?}");
    judged.map(|it| it["publish"].clone())
}

#[tokio::test]
async fn an_expression_takes_nothing_of_a_neighbour() {
    let mut rig = neighbours().await;
    let mut greedy = at("a", "/v1");
    greedy.revision = 2;
    service(&mut greedy).routes = vec![
        fixtures::route("r1", fixtures::regex("1/.*")),
        fixtures::route("r2", fixtures::regex("(1|.*|/../v11)/x")),
        fixtures::route("r3", fixtures::regex("^.*$")),
    ];
    set(&mut rig, greedy).await;
    for path in ["/v11/x", "/v11", "/v11/y?/v1/"] {
        assert_eq!(rig.with_key(HOST, &format!("GET {path}")).await.status, 200, "{path}");
        let judged = rig.stub.checks.lock().unwrap().pop().unwrap();
        assert_eq!(judged["publish"], "b", "{path}");
    }
    assert_eq!(rig.with_key(HOST, "GET /v1/x").await.status, 200);
    assert_eq!(rig.stub.checks.lock().unwrap().pop().unwrap()["publish"], "a");
    assert_eq!(rig.with_key(HOST, "GET /v2").await.status, 404);
}

#[tokio::test]
async fn nobody_traces_connects_or_speaks_what_is_not_spoken() {
    let rig = neighbours().await;
    let with = |head: &str, rest: &str| format!("{head}\r\nx-api-key: good\r\n{rest}\r\n");
    let host = format!("host: {HOST}\r\nconnection: close");
    let cases = [
        (format!("TRACE /v1/x HTTP/1.1\r\n{host}"), "", vec![404]),
        (format!("CONNECT {HOST}:443 HTTP/1.1\r\n{host}"), "", vec![404]),
        (format!("BREW /v1/x HTTP/1.1\r\n{host}"), "", vec![400]),
        ("GET /v1/x HTTP/1.1\r\nconnection: close".to_owned(), "", vec![400]),
        (
            format!("POST /v1/x HTTP/1.1\r\n{host}"),
            "content-length: 1\r\ntransfer-encoding: chunked\r\n",
            vec![400],
        ),
        (
            format!("POST /v1/x HTTP/1.1\r\n{host}"),
            "content-length: 1\r\ncontent-length: 2\r\n",
            vec![400],
        ),
        (
            format!("POST /v1/x HTTP/1.1\r\n{host}"),
            "transfer-encoding: x, chunked\r\n",
            vec![400, 501],
        ),
        (format!("GET /v1/x HTTP/1.1\r\n{host}"), "x_imp_consumer: evil\r\n", vec![200]),
        (format!("GET /v1/x HTTP/1.1\r\n{host}"), "x imp: evil\r\n", vec![400]),
        (
            format!("GET /v1/x HTTP/1.1\r\n{host}"),
            "upgrade: websocket\r\nconnection: upgrade\r\n",
            vec![403],
        ),
    ];
    for (head, rest, statuses) in cases {
        let answer = rig.raw(&with(&head, rest)).await;
        assert!(statuses.contains(&answer.status), "{head} {rest}: {answer:?}");
        assert!(!answer.body.contains("evil"), "{head}: {answer:?}");
    }
    let many: String = (0..110).map(|index| format!("x-{index}: 1\n")).collect();
    let long = format!("x-long: {}", "v".repeat(66_000));
    for headers in [many.as_str(), long.as_str()] {
        let answer = rig.with_key(HOST, &format!("GET /v1/x\n{}", headers.trim())).await;
        assert_eq!(answer.status, 431, "{answer:?}");
    }
}

#[tokio::test]
async fn a_host_is_one_host_however_it_is_written() {
    let rig = neighbours().await;
    let hosts = [
        "API.example.com",
        "api.example.com@evil.test",
        "evil.test@api.example.com",
        "api.example.com:80:80",
        "api.example.com..",
        "api.example.com/",
        "api.example.com,other",
        "!404",
        "*",
        "",
    ];
    for host in hosts {
        let answer = rig.with_key(host, "GET /v1/x").await;
        assert!([400, 404, 421].contains(&answer.status), "{host}: {answer:?}");
    }
    let absolute = |target: &str, host: &str| {
        format!(
            "GET http://{target}/v1/x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\nx-api-key: good\r\n\r\n"
        )
    };
    assert_eq!(rig.raw(&absolute(HOST, "other.test")).await.status, 200, "the target counts");
    assert_eq!(rig.raw(&absolute("other.test", HOST)).await.status, 404, "the target counts");
    let twice = format!(
        "GET /v1/x HTTP/1.1\r\nhost: {HOST}\r\nhost: {HOST}\r\nconnection: close\r\nx-api-key: good\r\n\r\n"
    );
    let answer = rig.raw(&twice).await;
    assert!([400, 404].contains(&answer.status), "{answer:?}");
}

#[tokio::test]
async fn callers_neither_steer_envoy_nor_pose_as_someone() {
    let rig = rich().await;
    let lies = [
        "x-envoy-upstream-rq-timeout-ms: 1",
        "x-envoy-retry-on: 5xx",
        "x-envoy-max-retries: 99",
        "x-envoy-original-path: /lie",
        "x-envoy-decorator-operation: lie",
        "x-envoy-internal: true",
        "x-envoy-ip-tags: lie",
        "x-envoy-external-address: 9.9.9.9",
        "x-forwarded-proto: lie",
        "x-forwarded-port: 666",
        "x-forwarded-prefix: /lie",
        "x-original-url: /lie",
        "true-client-ip: 9.9.9.9",
        "x-request-id: lie",
        "proxy: http://lie",
        "x-imp-route: lie",
        "connection: close, x-imp-consumer",
    ];
    let answer = rig.with_key(HOST, &format!("GET /v1/pay\n{}", lies.join("\n"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("x-imp-consumer: c1\r\n"), "{answer:?}");
    for lie in ["lie", "9.9.9.9", "666", "x-envoy-retry", "x-envoy-max", "x-envoy-internal"] {
        assert!(!answer.body.contains(lie), "{lie}: {answer:?}");
    }
    let spoofed = rig.with_key(HOST, "GET /v1/pay\nx-forwarded-for: 9.9.9.9").await;
    assert!(
        spoofed.body.contains("x-forwarded-for: ") && !spoofed.body.contains("9.9.9.9"),
        "Envoy's word is the only one: {spoofed:?}"
    );
}

#[tokio::test]
async fn a_key_counts_once() {
    let rig = rich().await;
    for second in ["good", "bad", ""] {
        let head = format!("GET /v1/pay\nx-api-key: good\nx-api-key: {second}");
        assert_eq!(rig.call(HOST, &head).await.status, 401, "{second}");
        let head = format!("GET /v1/pay\nx-api-key: {second}\nx-api-key: good");
        assert_eq!(rig.call(HOST, &head).await.status, 401, "{second}");
    }
}

#[tokio::test]
async fn an_upstream_gets_its_own_key_and_not_the_callers() {
    let mut rig = neighbours().await;
    let mut keyed = at("a", "/v1");
    keyed.revision = 2;
    service(&mut keyed).policies = vec![request_headers(pb::Headers {
        set: vec![header("x-api-key", "of-the-upstream")],
        ..Default::default()
    })];
    set(&mut rig, keyed).await;
    let answer = rig.with_key(HOST, "GET /v1/x").await;
    assert!(answer.body.contains("x-api-key: of-the-upstream\r\n"), "{answer:?}");
    assert!(!answer.body.contains("good") && !answer.body.contains("x-imp-gw"), "{answer:?}");
    let answer = rig.with_key(HOST, "GET /v11/x").await;
    assert!(!answer.body.contains("x-api-key"), "the neighbour's does not: {answer:?}");
}

#[tokio::test]
async fn an_upstream_that_fails_has_a_code_of_its_own() {
    let mut rig = neighbours().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = [&silent, &closed].map(|listener| listener.local_addr().unwrap().port());
    drop(closed);
    for (id, port) in [("slow", ports[0]), ("down", ports[1])] {
        let mut publish = at(id, &format!("/{id}"));
        service(&mut publish).backends = vec![fixtures::backend("b1", "127.0.0.1", port)];
        service(&mut publish).routes[0].timeout_ms = 200;
        let delta = rig.assembly.set_publish(parsed(&publish));
        rig.apply(&delta);
        rig.active(id).await;
    }
    let problem =
        |answer: &super::rig::Answer| (answer.status, answer.problem().unwrap_or_default());
    let slow = rig.with_key(HOST, "GET /slow").await;
    assert_eq!(problem(&slow), (504, "upstream_timeout".into()), "{slow:?}");
    let down = rig.with_key(HOST, "GET /down").await;
    assert_eq!(problem(&down), (503, "upstream_unavailable".into()), "{down:?}");
    assert!(!down.body.contains("127.0.0.1"), "nothing is told about the inside: {down:?}");
}
