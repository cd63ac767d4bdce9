//! The settings of a gateway take effect, and do not help callers to lie.

use imp_translate::ir::EscapedSlash::{Decode, Keep, Refuse};
use imp_translate::{Layout, ir};

use super::http2;
use super::rig::{Answer, Rig};
use super::{HOST, rich};
use crate::fixtures;
use crate::{fixtures::parsed, golden};

async fn with(edge: ir::Edge) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let gateway = ir::Gateway { edge, ..fixtures::parsed_gateway(rig.port) };
    let delta = rig.assembly.set_gateway(gateway);
    rig.apply(&delta);
    let delta = rig.assembly.set_publish(parsed(&golden::rich("p1", HOST, rig.upstream)));
    rig.apply(&delta);
    rig.active("p1").await;
    assert_eq!(rig.refusals, [], "Envoy takes everything");
    rig
}

fn edge() -> ir::Edge {
    ir::Edge::default()
}

fn line(answer: &Answer) -> &str {
    answer.body.lines().next().unwrap_or_default()
}

#[tokio::test]
async fn an_escaped_slash_is_refused_kept_or_decoded() {
    let path = "GET /v1/users/a%2Fb/cards";
    for (escaped_slash, status) in [(Refuse, 400), (Keep, 200), (Decode, 404)] {
        let rig = with(ir::Edge { escaped_slash, ..edge() }).await;
        let answer = rig.with_key(HOST, path).await;
        assert_eq!(answer.status, status, "{escaped_slash:?}: {answer:?}");
        match escaped_slash {
            Refuse => assert_eq!(answer.told().1, "escaped_slash"),
            Keep => {
                assert_eq!(line(&answer), "GET /v1/users/a%2Fb/cards HTTP/1.1");
                for confusing in ["x%2f..%2fy", "x%2F", "%2Fx", "x%5Cy", "a%2F%2Fb", "x%2f%2e/"] {
                    let answer = rig.with_key(HOST, &format!("GET /v1/pay/{confusing}")).await;
                    assert_eq!(answer.told(), (400, "escaped_slash".into()), "{confusing}");
                }
                let answer = rig.with_key(HOST, "GET /v1/pay/x?next=..%2F..%2Fa%5Cb").await;
                assert_eq!(answer.status, 200, "the query is no path: {answer:?}");
            }
            Decode => {
                let answer = rig.with_key(HOST, "GET /v1%2Fpay%2Fx").await;
                assert_eq!(line(&answer), "GET /v1/pay/x HTTP/1.1", "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn headers_with_underscores_pass_unless_they_are_refused() {
    let rig = rich().await;
    let said = "GET /v1/pay\nbaggage_id: 1\nx_imp_consumer: evil\nX_IMP-Plan: evil\n\
        x-imp_customer: evil\nx_real_ip: evil\nx-forwarded_for: evil\nx_api_key: evil";
    let answer = rig.with_key(HOST, said).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("baggage_id: 1\r\n"), "{answer:?}");
    assert!(!answer.body.contains("evil"), "{answer:?}");
    let header = [("baggage_id".to_owned(), "1".to_owned())];
    let answer = http2::call(&rig, http2::get(HOST, "/v1/pay", &header)).await.unwrap();
    assert!(answer.body.contains("baggage_id: 1\r\n"), "{answer:?}");

    let rig = with(ir::Edge { refuse_underscores: true, ..edge() }).await;
    for name in ["baggage_id", "x_imp_consumer", "_"] {
        let answer = rig.with_key(HOST, &format!("GET /v1/pay\n{name}: 1")).await;
        assert_eq!(answer.told(), (400, "underscore_header".into()), "{name}");
        let header = [(name.to_owned(), "1".to_owned())];
        let answer = http2::call(&rig, http2::get(HOST, "/v1/pay", &header)).await.unwrap();
        assert_eq!(answer.told(), (400, "underscore_header".into()), "{name}");
    }
    for lie in ["x-imp-count: 0", "x-imp-count: 99", "x-own: a_b"] {
        let answer = rig.with_key(HOST, &format!("GET /v1/pay\n{lie}")).await;
        assert_eq!(answer.status, 200, "{lie}: {answer:?}");
        assert!(!answer.body.contains("x-imp-count"), "{answer:?}");
    }
}

#[tokio::test]
async fn http_1_0_is_served_unless_it_is_refused() {
    let request = format!("GET /v1/pay HTTP/1.0\r\nhost: {HOST}\r\nx-api-key: good\r\n\r\n");
    let rig = rich().await;
    let answer = rig.raw(&request).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let keyless = request.replace("x-api-key: good\r\n", "");
    assert_eq!(rig.raw(&keyless).await.status, 401);
    let rig = with(ir::Edge { refuse_http10: true, ..edge() }).await;
    assert_eq!(rig.raw(&request).await.told(), (426, "http_1_0".into()));
}

fn seen<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    let start = format!("{name}: ");
    answer.body.split("\r\n").find_map(|line| line.strip_prefix(&start))
}

#[tokio::test]
async fn trusted_proxies_are_believed_and_nobody_beyond_them() {
    let said = "GET /v1/pay\nx-forwarded-for: evil, 6.6.6.6\nx-forwarded-for: 203.0.113.9, 198.51.100.2\n\
        x-forwarded-proto: https\nx-forwarded-host: shop.example.com\nx-forwarded-port: 443\n\
        x-forwarded-anything: evil\nx-real-ip: evil\nx-imp-for: evil\nx_forwarded_proto: evil";
    for (trusted_hops, believed) in
        [(0, None), (1, Some("198.51.100.2")), (2, Some("203.0.113.9,198.51.100.2"))]
    {
        let rig = with(ir::Edge { trusted_hops, ..edge() }).await;
        let answer = rig.with_key(HOST, said).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(!answer.body.contains("evil") && !answer.body.contains("6.6.6.6"), "{answer:?}");
        assert!(!answer.body.contains("x-imp-for"), "{answer:?}");
        let from = seen(&answer, "x-forwarded-for").unwrap().replace(' ', "");
        let (before, _peer) = from.rsplit_once(',').unzip();
        assert_eq!(before, believed, "{answer:?}");
        let proto = if trusted_hops == 0 { "http" } else { "https" };
        assert_eq!(seen(&answer, "x-forwarded-proto"), Some(proto), "{answer:?}");
        let hosts = (seen(&answer, "x-forwarded-host"), seen(&answer, "x-forwarded-port"));
        let expected = (Some("shop.example.com"), Some("443"));
        assert_eq!(hosts, if trusted_hops == 0 { (None, None) } else { expected }, "{answer:?}");
        // For a caller that did not come through the proxies, its own address counts, and its
        // headers do not.
        let answer = rig
            .with_key(HOST, "GET /v1/pay\nx-forwarded-proto: gopher\nx-forwarded-port: x\nx-forwarded-host: a b")
            .await;
        assert_eq!(seen(&answer, "x-forwarded-proto"), Some("http"), "{answer:?}");
        assert!(!answer.body.contains("x-forwarded-port"), "{answer:?}");
        assert!(!answer.body.contains("x-forwarded-host"), "{answer:?}");
        assert!(!seen(&answer, "x-forwarded-for").unwrap().contains(','), "{answer:?}");
    }
}

#[tokio::test]
async fn the_most_trusted_proxies_are_believed() {
    let hops = u32::try_from(imp_grammar::caps::TRUSTED_HOPS.value).unwrap();
    let rig = with(ir::Edge { trusted_hops: hops, ..edge() }).await;
    let from: Vec<String> = (0..hops + 2).map(|number| format!("203.0.113.{number}")).collect();
    let said = format!("GET /v1/pay\nx-forwarded-for: {}", from.join(", "));
    let answer = rig.with_key(HOST, &said).await;
    let from = seen(&answer, "x-forwarded-for").unwrap().replace(' ', "");
    assert!(from.starts_with("203.0.113.2,203.0.113.3,"), "{answer:?}");
    assert!(from.contains(&format!("203.0.113.{},", hops + 1)), "{answer:?}");
}

#[tokio::test]
async fn a_changed_setting_holds_and_the_port_stays_open() {
    let mut rig = rich().await;
    assert_eq!(rig.with_key(HOST, "GET /v1/users/a%2Fb/cards").await.status, 400);
    let changed = ir::Edge { escaped_slash: Keep, ..edge() };
    let gateway = ir::Gateway { edge: changed, ..fixtures::parsed_gateway(rig.port) };
    let delta = rig.assembly.set_gateway(gateway);
    assert_eq!(delta.all.upserts.len(), 1, "only the listener");
    rig.apply(&delta);
    rig.until(|verdict, _| verdict.name.starts_with("port-")).await;
    assert_eq!(rig.refusals, []);
    let deadline = tokio::time::Instant::now() + super::rig::PATIENCE;
    while rig.with_key(HOST, "GET /v1/users/a%2Fb/cards").await.status != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the setting does not hold");
    }
}
