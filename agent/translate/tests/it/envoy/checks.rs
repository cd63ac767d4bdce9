//! What one tenant's endpoints do to the calls of others, and to its own while they change.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use imp_proto::config as pb;
use imp_translate::Layout;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::HOST;
use super::retries::answering;
use super::rewrites::serve;
use super::rig::{self, Rig};
use crate::fixtures::{self, parsed, prefix, route};

/// The agent sends routes after so long though their clusters are not acknowledged.
const BARRIER: Duration = Duration::from_secs(2);
const NEIGHBOUR: &str = "neighbour.example.com";

/// Takes connections and never says a word.
async fn hanging() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    port
}

fn with_second(mut backend: pb::Backend, port: u16) -> pb::Backend {
    backend.endpoints.push(pb::Endpoint { host: "127.0.0.1".into(), port: port.into(), weight: 1 });
    backend
}

fn publish(id: &str, tenant: &str, host: &str, backend: pb::Backend) -> pb::Publish {
    let mut publish = fixtures::publish(id, host, 1);
    publish.tenant_id = tenant.into();
    fixtures::service(&mut publish).backends = vec![backend];
    publish
}

/// Calls until told to stop; the statuses seen.
async fn calls(port: u16, mut stop: oneshot::Receiver<()>) -> Vec<u16> {
    let request =
        format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: good\r\nconnection: close\r\n\r\n");
    let mut seen = Vec::new();
    while stop.try_recv().is_err() {
        seen.push(rig::raw(port, &request).await.status);
    }
    seen
}

/// Envoy acknowledges no cluster while one of them waits for its first checks.
#[tokio::test]
async fn a_check_that_hangs_ends_before_routes_go_without_their_clusters() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let plain = fixtures::backend("b1", "127.0.0.1", rig.upstream);
    serve(&mut rig, "/", plain.clone(), vec![route("r1", prefix("/"))]).await;
    let (stop, stopped) = oneshot::channel();
    let calls = tokio::spawn(calls(rig.port, stopped));

    let checked = pb::Backend {
        health_check: Some(pb::HealthCheck {
            path: "/healthz".into(),
            timeout_ms: 60_000,
            ..Default::default()
        }),
        ..with_second(plain, hanging().await)
    };
    let changed = pb::Publish { revision: 2, ..publish("p1", "t1", HOST, checked) };
    let other = answering("200 OK", "other").await;
    let neighbour = publish("p2", "t2", NEIGHBOUR, fixtures::backend("b1", "127.0.0.1", other));
    let begin = Instant::now();
    for one in [&changed, &neighbour] {
        let delta = rig.assembly.set_publish(parsed(one));
        rig.apply(&delta);
    }
    rig.has_all("p1").await;
    rig.has_all("p2").await;
    assert!(begin.elapsed() < BARRIER, "{:?}", begin.elapsed());
    assert_eq!(rig.with_key(NEIGHBOUR, "GET /").await.body, "other");

    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.send(()).unwrap();
    let seen = calls.await.unwrap();
    assert!(seen.len() > 20 && seen.iter().all(|status| *status == 200), "{seen:?}");
}

/// 503 answers of both endpoints, on one tenant's calls, take one of them out for that tenant.
#[tokio::test]
async fn an_endpoint_that_one_tenant_sees_failing_is_in_for_others() {
    let first = answering("503 Service Unavailable", "first").await;
    let second = answering("503 Service Unavailable", "second").await;
    let backend = with_second(fixtures::backend("b1", "127.0.0.1", first), second);
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    // In the order of their scopes.
    for (id, tenant, host) in [("p1", "t1", NEIGHBOUR), ("p2", "t2", "up.internal")] {
        let delta = rig.assembly.set_publish(parsed(&publish(id, tenant, host, backend.clone())));
        rig.apply(&delta);
        rig.active(id).await;
    }
    for _ in 0..30 {
        assert_eq!(rig.with_key("up.internal", "GET /healthz").await.status, 503);
    }
    assert_eq!(rig.of_upstreams("outlier_detection.ejections_active").await, 1);
    let mut served_by = BTreeSet::new();
    for _ in 0..20 {
        served_by.insert(rig.with_key(NEIGHBOUR, "GET /").await.body);
    }
    assert_eq!(served_by.len(), 2, "{served_by:?}");
}
