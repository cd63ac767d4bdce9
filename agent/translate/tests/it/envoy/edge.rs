//! What the edge removes, in either direction.

use imp_proto::config as pb;
use imp_translate::{Layout, ir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::rig::Rig;
use super::{HOST, rich};
use crate::fixtures::{self, parsed, service};
use crate::golden;

#[tokio::test]
async fn a_caller_says_nothing_that_only_a_proxy_may_say() {
    let rig = rich().await;
    let answer = rig
        .with_key(
            HOST,
            "GET /v1/pay\nx-forwarded-for: evil-77, 203.0.113.9\nx-forwarded-proto: evil\n\
             x-envoy-peer-metadata: evil\nx-envoy-attempt-count: evil\nx-client-trace-id: evil\n\
             x-ot-span-context: evil\nX-Forwarded-Anything: evil\nx-real-ip: evil\n\
             cf-connecting-ip: evil\nx-original-anything: evil\nforwarded: for=evil\nx-own: kept",
        )
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = answer.body.to_lowercase();
    assert!(!seen.contains("evil"), "{seen}");
    // One address; for a caller on loopback Envoy writes that of its own host.
    let from = seen.lines().find_map(|line| line.strip_prefix("x-forwarded-for: "));
    assert!(from.is_some_and(|from| from.parse::<std::net::IpAddr>().is_ok()), "{seen}");
    assert!(!seen.contains("203.0.113.9"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: http\r\n") && seen.contains("x-own: kept"), "{seen}");
}

/// Answers with headers and a trailer that only the gateway may set.
async fn boastful() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0_u8; 4096];
                while let Ok(1..) = stream.read(&mut buffer).await {
                    let answer = "HTTP/1.1 200 OK\r\nx-imp-consumer: evil\r\nX-Imp-Other: evil\r\n\
                        x-envoy-upstream-service-time: 7\r\nx-envoy-anything: evil\r\nx-own: kept\r\n\
                        content-length: 2\r\n\r\nok";
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn an_upstream_says_nothing_in_the_gateways_name() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut publish = fixtures::publish("p1", HOST, 1);
    service(&mut publish).backends = vec![fixtures::backend("b1", "127.0.0.1", boastful().await)];
    let delta = rig.assembly.set_publish(parsed(&publish));
    rig.apply(&delta);
    rig.active("p1").await;
    let answer = rig.with_key(HOST, "GET /").await;
    assert_eq!((answer.status, answer.header("x-own")), (200, Some("kept")), "{answer:?}");
    let head = answer.head.to_lowercase();
    assert!(!head.contains("x-imp-") && !head.contains("x-envoy-"), "{head}");
}

#[tokio::test]
async fn a_host_in_capitals_is_told_how_to_be_written() {
    let rig = rich().await;
    for host in ["API.example.com", "api.EXAMPLE.com", "api.example.coM:80"] {
        let answer = rig.with_key(host, "GET /v1/pay").await;
        let told = (answer.status, answer.problem());
        assert_eq!(told, (421, Some("host_spelling".into())), "{host}: {answer:?}");
    }
    for (target, host, status) in [
        ("http://API.example.com/v1/pay", HOST, 421),
        ("http://API.example.com.:80/v1/pay", HOST, 421),
        ("http://api.example.com.:80/v1/pay", "OTHER.test", 200),
        ("/v1/pay", "API.example.com.:8443", 421),
        ("/v1/pay", "api.example.com.:8443", 200),
    ] {
        let answer = rig.with_key(host, &format!("GET {target}")).await;
        assert_eq!(answer.status, status, "{target} {host}: {answer:?}");
        if status == 421 {
            assert_eq!(answer.told().1, "host_spelling", "{target} {host}");
        }
    }
    assert_eq!(rig.with_key(HOST, "GET /v1/pay").await.status, 200);
    assert_eq!(rig.with_key("unknown.example.com", "GET /v1/pay").await.status, 404);
}

#[tokio::test]
async fn two_gateways_serve_their_hosts_at_one_port() {
    let mut rig = rich().await;
    let before = rig.counter("listener_manager.lds.update_success").await;
    let second = ir::Gateway { id: "g2".into(), ..fixtures::parsed_gateway(rig.port) };
    let delta = rig.assembly.set_gateway(second);
    rig.apply(&delta);
    let other = pb::Publish {
        gateway_id: "g2".into(),
        ..golden::rich("p2", "other.example.com", rig.upstream)
    };
    let delta = rig.assembly.set_publish(parsed(&other));
    rig.apply(&delta);
    rig.active("p2").await;
    for host in [HOST, "other.example.com"] {
        assert_eq!(rig.with_key(host, "GET /v1/pay").await.status, 200, "{host}");
    }
    // The first gateway is removed, and the port stays open for the second.
    let delta = rig.assembly.remove_gateway(fixtures::GATEWAY);
    rig.apply(&delta);
    rig.until(|verdict, _| verdict.version.is_none()).await;
    assert_eq!(rig.with_key("other.example.com", "GET /v1/pay").await.status, 200);
    assert_eq!(rig.counter("listener_manager.lds.update_success").await, before);
    assert_eq!(rig.counter("listener_manager.listener_removed").await, 0);
    assert_eq!(rig.refusals, []);
}
