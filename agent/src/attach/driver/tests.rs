//! What a host more costs, in hosts that are looked at and objects that are written.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{Method, StatusCode};
use imp_enforce::Engine;
use imp_kube::Access;
use imp_proto::config::{self as pb, ResourceType};
use imp_translate::envoy_gateway::{Agent, HOSTS_ANNOTATION};
use imp_translate::{Layout, Options};
use imp_xds::Resource;
use serde_json::{Value, json};

use super::*;
use crate::attach::plan::tests::COVERED;
use crate::intake::{self, Item};
use crate::lkg::Lkg;

const OURS: &str = "0198c0de-0000-7000-8000-000000000001";

/// Objects that were applied.
static WRITTEN: AtomicUsize = AtomicUsize::new(0);

/// An API server that has nothing, and takes everything as another generation.
async fn answer(method: Method, body: String) -> (StatusCode, String) {
    if method != Method::PATCH {
        let none =
            json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"});
        return (StatusCode::NOT_FOUND, none.to_string());
    }
    let generation = WRITTEN.fetch_add(1, Ordering::Relaxed) + 1;
    let mut object: Value = serde_json::from_str(&body).unwrap();
    object["metadata"]["generation"] = generation.into();
    (StatusCode::OK, object.to_string())
}

async fn cluster(directory: &std::path::Path) -> Cluster {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    let path = directory.join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "t",
        "clusters": [{"name": "t", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "t", "user": {}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    Access::Kubeconfig(path).connect().await.unwrap()
}

fn options() -> Options {
    Options {
        bind_address: "127.0.0.1".into(),
        layout: Layout::InlineScopes,
        agent_cluster: "agent".into(),
        upstreams: Default::default(),
        door: Default::default(),
        tells_hosts: true,
    }
}

fn item(kind: ResourceType, id: &str, message: &impl prost::Message) -> Item {
    let bytes = message.encode_to_vec();
    intake::parse(kind, &Resource::new(id, "v", bytes.into())).unwrap()
}

fn id(number: usize) -> String {
    format!("0198c0de-0000-7000-8000-{number:012}")
}

fn publish(number: usize, host: &str) -> Item {
    let id = id(number);
    let route = pb::Route {
        id: "r".into(),
        path: Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".into())) }),
        backends: vec![pb::WeightedBackend { backend_id: "b".into(), weight: 1 }],
        ..Default::default()
    };
    let endpoint = pb::Endpoint { host: "10.0.0.1".into(), port: 80, weight: 1 };
    let backend = pb::Backend { id: "b".into(), endpoints: vec![endpoint], ..Default::default() };
    let service = pb::ApiService {
        id: "s".into(),
        routes: vec![route],
        backends: vec![backend],
        ..Default::default()
    };
    let message = pb::Publish {
        id: id.clone(),
        gateway_id: OURS.into(),
        hostnames: vec![host.into()],
        base_path: "/".into(),
        revision: 1,
        api_services: vec![service],
        ..Default::default()
    };
    item(ResourceType::Publish, &id, &message)
}

fn gateway() -> Item {
    let protocol = pb::listener::Protocol::Http.into();
    let listener = pb::Listener { name: "http".into(), port: 8080, protocol, ..Default::default() };
    let message = pb::Gateway { id: OURS.into(), listeners: vec![listener], ..Default::default() };
    item(ResourceType::Gateway, OURS, &message)
}

/// As the API server tells it.
fn told(generation: i64) -> [(&'static Kind, Value); 2] {
    let labels = json!({GATEWAY_LABEL: OURS});
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "edge", "labels": labels,
            "annotations": {HOSTS_ANNOTATION: "*.test"}},
        "spec": {
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
            "infrastructure": {"parametersRef": {"kind": "EnvoyProxy", "name": "imp-gw"}},
        },
    });
    let condition =
        json!({"type": "Programmed", "status": "True", "observedGeneration": generation});
    let policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyPatchPolicy",
        "metadata": {"name": "imp-gw", "namespace": "edge", "labels": labels, "generation": generation},
        "status": {"ancestors": [{"conditions": [condition]}]},
    });
    [(&kinds::GATEWAY, gateway), (&kinds::ENVOY_PATCH_POLICY, policy)]
}

/// The hosts that are looked at, and the objects that are written, while the driver settles.
async fn work(driver: &mut Driver) -> (usize, usize) {
    let before = (COVERED.with(Cell::get), WRITTEN.load(Ordering::Relaxed));
    driver.reconcile().await;
    let after = (COVERED.with(Cell::get), WRITTEN.load(Ordering::Relaxed));
    (after.0 - before.0, after.1 - before.1)
}

#[tokio::test]
async fn a_host_below_a_pattern_costs_as_much_beside_many_as_beside_few() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let directory = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    let (lkg, _) = Lkg::open(directory.path()).unwrap();
    let fleet = Fleet::start(options(), Engine::new(), lkg, cancel.clone());
    let attaching = Attaching {
        access: Access::InCluster,
        agent: Agent { cluster: "agent".into(), host: "a".into(), port: 1, uri: "u".into() },
        envoys: "envoys".to_owned(),
        namespaces: vec![],
        state_dir: directory.path().to_owned(),
        options: options(),
    };
    let kept = Kept::open(directory.path());
    let cluster = cluster(directory.path()).await;
    let mut driver = Driver::new(cluster, attaching, fleet.clone(), kept);
    let name = ("edge".to_owned(), "gw".to_owned());
    driver.attached.insert(name.clone(), Attached::prepared(OURS));
    let many: Vec<Item> = (0..3_000).map(|n| publish(n, &format!("h{n}.test"))).collect();
    fleet.change([gateway()].into_iter().chain(many).collect(), vec![], vec![]);
    for (kind, object) in told(1) {
        driver.seen.take(kind.kind, None, &Change::Applied(object));
    }
    let (looked_at, written) = work(&mut driver).await;
    assert!(looked_at >= 3_000 && written == 1, "all of them: {looked_at}, {written}");
    assert_eq!(driver.attached[&name].led().hosts.len(), 3_000);

    // What is told again is no news.
    for (kind, object) in told(1) {
        driver.seen.take(kind.kind, None, &Change::Applied(object));
    }
    assert_eq!(work(&mut driver).await, (0, 0));

    fleet.change(vec![publish(3_000, "new.test")], vec![], vec![]);
    let (looked_at, written) = work(&mut driver).await;
    assert!(looked_at < 10 && written == 0, "a host more: {looked_at}, {written}");
    let hosts = &driver.attached[&name].led().hosts;
    assert!(hosts.len() == 3_001 && hosts.contains("new.test"));
    assert_eq!(&Kept::open(directory.path()).of(OURS), hosts);

    fleet.change(vec![], vec![(ResourceType::Publish, id(7))], vec![]);
    let (looked_at, written) = work(&mut driver).await;
    assert!(looked_at < 10 && written == 0, "a host less: {looked_at}, {written}");
    let hosts = &driver.attached[&name].led().hosts;
    assert!(hosts.len() == 3_000 && !hosts.contains("h7.test"));

    // A host that no pattern covers is written, and looked at with all others.
    fleet.change(vec![publish(3_001, "other.example")], vec![], vec![]);
    let (looked_at, written) = work(&mut driver).await;
    assert!(looked_at >= 3_000 && written == 1, "{looked_at}, {written}");
    let hosts = &driver.attached[&name].led().hosts;
    assert_eq!(hosts.len(), 3_000, "not before Envoy Gateway has applied it");
    cancel.cancel();
}
