//! Failing endpoints, and retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use imp_proto::config as pb;
use imp_translate::{Layout, ir};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::HOST;
use super::rewrites::serve;
use super::rig::Rig;
use crate::fixtures::{self, prefix, route};

async fn rig(backend: impl FnOnce(&Rig) -> pb::Backend) -> Rig {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let backend = backend(&rig);
    serve(&mut rig, "/", backend, vec![route("r1", prefix("/"))]).await;
    rig
}

/// A port without a listener.
async fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Answers the first request of each connection, and closes it when the second one arrives.
async fn forgetful() -> (u16, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Arc::new(AtomicU32::new(0));
    let count = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = count.clone();
            tokio::spawn(async move {
                let mut buffer = [0_u8; 4096];
                let _ = stream.read(&mut buffer).await;
                count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                if let Ok(1..) = stream.read(&mut buffer).await {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    (port, seen)
}

fn with_dead(rig: &Rig, dead: u16) -> pb::Backend {
    let mut backend = fixtures::backend("b1", "127.0.0.1", rig.upstream);
    backend.endpoints.push(pb::Endpoint { host: "127.0.0.1".into(), port: dead.into(), weight: 1 });
    backend
}

#[tokio::test]
async fn a_call_that_changes_nothing_survives_a_kept_connection_that_closes() {
    let (port, seen) = forgetful().await;
    let rig = rig(|_| fixtures::backend("b1", "127.0.0.1", port)).await;
    for call in 0..12 {
        let answer = rig.with_key(HOST, &format!("GET /{call}")).await;
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
    }
    // A call that may have had effects is not repeated.
    seen.store(0, Ordering::Relaxed);
    let mut refused = 0;
    for _ in 0..6 {
        let answer = rig.with_key(HOST, "POST /\ncontent-length: 0").await;
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        refused += u32::from(answer.status == 503);
    }
    assert!(refused > 0);
    assert_eq!(seen.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn one_dead_endpoint_of_two_costs_no_call_and_is_taken_out() {
    let dead = dead_port().await;
    let rig = rig(|rig| with_dead(rig, dead)).await;
    for call in 0..40 {
        let method = if call % 2 == 0 { "POST" } else { "GET" };
        let answer = rig.with_key(HOST, &format!("{method} /\ncontent-length: 0")).await;
        assert_eq!(answer.status, 200, "{call}: {answer:?}");
        let body = answer.body.to_lowercase();
        assert!(!body.contains("x-envoy-retry") && !body.contains("x-envoy-attempt"), "{body}");
    }
    assert_eq!(rig.of_upstreams("upstream_cx_connect_fail").await, 5);
    assert_eq!(rig.of_upstreams("outlier_detection.ejections_active").await, 1);
}

#[tokio::test]
async fn without_retries_a_dead_endpoint_costs_some_calls_until_it_is_out() {
    let dead = dead_port().await;
    let rig = rig(|rig| pb::Backend {
        retries: Some(pb::Retries { attempts: 0 }),
        outlier_detection: Some(pb::OutlierDetection {
            consecutive_failures: 2,
            ejection_ms: 60_000,
            ..Default::default()
        }),
        ..with_dead(rig, dead)
    })
    .await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += u32::from(rig.with_key(HOST, "GET /").await.status == 503);
    }
    assert_eq!(failed, 2);
}

#[tokio::test]
async fn the_last_endpoint_is_never_taken_out() {
    let (first, second) = (dead_port().await, dead_port().await);
    let rig = rig(|rig| {
        let mut backend = with_dead(rig, first);
        backend.endpoints[0].port = second.into();
        backend
    })
    .await;
    for _ in 0..20 {
        assert_eq!(rig.with_key(HOST, "GET /").await.status, 503);
    }
    assert_eq!(rig.of_upstreams("outlier_detection.ejections_active").await, 1);
}

#[tokio::test]
async fn ejection_can_be_switched_off() {
    let dead = dead_port().await;
    let rig = rig(|rig| pb::Backend {
        outlier_detection: Some(pb::OutlierDetection { disabled: true, ..Default::default() }),
        ..with_dead(rig, dead)
    })
    .await;
    for _ in 0..40 {
        assert_eq!(rig.with_key(HOST, "GET /").await.status, 200);
    }
    assert!(rig.of_upstreams("upstream_cx_connect_fail").await > 10);
}

/// Answers health checks with this status, and everything else with 200 and its name.
pub(super) async fn answering(health: &'static str, name: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0_u8; 4096];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    let is_check =
                        request.starts_with("GET /healthz HTTP/1.1\r\nhost: up.internal\r\n");
                    let status = if is_check { health } else { "200 OK" };
                    let length = name.len();
                    let answer =
                        format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{name}");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn an_endpoint_that_says_that_it_is_ill_gets_no_calls() {
    let well = answering("200 OK", "well").await;
    let ill = answering("503 Service Unavailable", "ill").await;
    let check = pb::HealthCheck {
        path: "/healthz".into(),
        host: "up.internal".into(),
        interval_ms: 1_000,
        unhealthy_threshold: 1,
        ..Default::default()
    };
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let mut backend = fixtures::backend("b1", "127.0.0.1", well);
    backend.health_check = Some(check);
    backend.endpoints.push(pb::Endpoint { host: "127.0.0.1".into(), port: ill.into(), weight: 1 });
    serve(&mut rig, "/", backend, vec![route("r1", prefix("/"))]).await;
    let mut settled = false;
    for _ in 0..50 {
        settled = rig.of_upstreams("health_check.failure").await > 0;
        if settled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(settled, "nobody asked");
    for _ in 0..20 {
        let answer = rig.with_key(HOST, "GET /").await;
        assert_eq!((answer.status, &*answer.body), (200, "well"));
    }
}

/// Nothing checks the address that a health check connects to.
#[tokio::test]
async fn no_check_is_made_of_an_address_that_is_closed_and_none_of_a_name() {
    let port = answering("200 OK", "well").await;
    let check = pb::HealthCheck { interval_ms: 1_000, ..Default::default() };
    let checked = |host: &str| pb::Backend {
        health_check: Some(check.clone()),
        ..fixtures::backend("b1", host, port)
    };
    let options = imp_translate::Options {
        upstreams: imp_translate::Upstreams::default(),
        ..fixtures::options(Layout::ScopedRoutes)
    };
    let mut rig = Rig::start_with(options).await;
    serve(&mut rig, "/", checked("127.0.0.1"), vec![route("r1", prefix("/"))]).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(rig.connections().await, 0);
    assert_eq!(rig.with_key(HOST, "GET /").await.status, 502);
    let mut publish = fixtures::publish("p1", HOST, 1);
    fixtures::service(&mut publish).backends = vec![checked("up.example.com")];
    let error = ir::Publish::parse(&publish).unwrap_err();
    assert!(error.to_string().contains("health_check/path"), "{error}");
}
