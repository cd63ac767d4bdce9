//! Admission at the agents' port.

use std::sync::Arc;

use chrono::TimeDelta;
use imp_control::admission::{Admission, RestRates};
use imp_control::compile::ClusterResources;
use imp_control::hub::Hub;
use imp_control::hub::identity::AgentKey;
use imp_control::hub::presence::Duplicates;
use imp_control::listen::Limits;
use imp_control::operation::{Actor, Operation};
use imp_control::state::Clock;
use imp_core::scope::TenantScope;
use imp_store::testing::{Database, Kind};
use rstest::rstest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::agent::{Agent, Report, delta, delta_with, register, registration_token, renew, shows};
use crate::control_plane::{ControlPlane, Shop};

async fn cluster(plane: &ControlPlane) -> String {
    let made = plane.admin.make("clusters", json!({ "name": "here" })).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn agents(plane: &ControlPlane, cluster: &str) -> usize {
    let list = plane.admin.get(&format!("/v1/clusters/{cluster}/agents")).await.ok();
    list["items"].as_array().unwrap().len()
}

#[track_caller]
fn refused<T>(outcome: Result<T, Status>, code: Code) -> String {
    let Err(status) = outcome else { panic!("let in") };
    assert_eq!(status.code(), code, "{status}");
    assert!(!status.message().is_empty() && !status.message().contains('\n'));
    status.message().to_owned()
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registration_token_lets_one_agent_in_once(#[case] kind: Kind) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    let cluster = cluster(&plane).await;
    let token = registration_token(&plane.admin, &cluster).await;
    let calls = (0..8).map(|_| register(&plane, &token));
    let mut let_in = Vec::new();
    for outcome in futures::future::join_all(calls).await {
        match outcome {
            Ok((registered, _)) => let_in.push(registered),
            refused_one => drop(refused(refused_one, Code::Unauthenticated)),
        }
    }
    let [registered] = &let_in[..] else { panic!("{} were let in", let_in.len()) };
    assert_eq!(registered.cluster_id, cluster);
    let now = plane.now.get().timestamp_millis();
    assert!(registered.jwt_expires_at_ms > now);
    assert_eq!(agents(&plane, &cluster).await, 1);
    let path = format!("/v1/clusters/{cluster}/agents/{}", registered.agent_id);
    let agent = plane.admin.get(&path).await.ok();
    assert_eq!((&agent["status"], &agent["hostname"]), (&json!("registered"), &json!("test")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_fresh_registration_token_registers_nobody() {
    let plane = ControlPlane::start().await;
    let cluster = cluster(&plane).await;
    let old = registration_token(&plane.admin, &cluster).await;
    let deleted = registration_token(&plane.admin, &cluster).await;
    let tokens = format!("/v1/clusters/{cluster}/registration-tokens");
    let items = plane.admin.get(&tokens).await.ok()["items"].clone();
    let last = items.as_array().unwrap().last().unwrap()["id"].as_str().unwrap().to_owned();
    assert_eq!(plane.admin.delete(&format!("{tokens}/{last}")).await.status, 204);
    plane.now.advance(TimeDelta::minutes(15));
    let mut mistyped = registration_token(&plane.admin, &cluster).await;
    mistyped.replace_range(mistyped.len() - 1.., if mistyped.ends_with('0') { "1" } else { "0" });
    let api_token = plane.admin.token.clone().unwrap();
    let before = agents(&plane, &cluster).await;
    for token in [&old, &deleted, &mistyped, &api_token, "", "nonsense"] {
        let said = refused(register(&plane, token).await, Code::Unauthenticated);
        assert!(token.is_empty() || !said.contains(token));
    }
    assert_eq!((before, agents(&plane, &cluster).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_opens_nothing_but_is_renewed_for_thirty_days() {
    let plane = ControlPlane::start().await;
    let (address, cluster) = (plane.running.agent_addr, cluster(&plane).await);
    let agent = Agent::start(&plane, &cluster).await;
    plane.now.advance(TimeDelta::hours(1));
    refused(delta(address, &agent.credential).await, Code::Unauthenticated);
    refused(Report::open(address, &agent.credential).await, Code::Unauthenticated);
    let renewed = renew(address, &agent.credential).await.unwrap();
    let lifetime = renewed.jwt_expires_at_ms - plane.now.get().timestamp_millis();
    assert!((3_599_000..=3_600_000).contains(&lifetime), "{lifetime}");
    let renewed = agent.credential.with_jwt(&renewed.jwt);
    delta(address, &renewed).await.unwrap();
    plane.now.advance(TimeDelta::days(30));
    refused(renew(address, &agent.credential).await, Code::Unauthenticated);
    renew(address, &renewed).await.unwrap();
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_agent_is_cut_off_at_once_and_stays_out(#[case] kind: Kind) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    let (address, cluster) = (plane.running.agent_addr, cluster(&plane).await);
    let (agent, other) =
        (Agent::start(&plane, &cluster).await, Agent::start(&plane, &cluster).await);
    let (report, stays) = (agent.report().await, other.report().await);
    report.beat(&["envoy"]).await;
    let path = format!("/v1/clusters/{cluster}/agents/{}", agent.id);
    shows(&plane.admin, &path, |it| it["status"] == "connected").await;
    assert_eq!(plane.admin.delete(&path).await.status, 204);

    assert_eq!(report.end().await.code(), Code::PermissionDenied);
    agent.held.end().await;
    refused(delta(address, &agent.credential).await, Code::PermissionDenied);
    refused(Report::open(address, &agent.credential).await, Code::PermissionDenied);
    refused(renew(address, &agent.credential).await, Code::PermissionDenied);
    assert_eq!(plane.admin.get(&path).await.ok()["status"], "revoked");
    assert!(other.held.is_connected());
    stays.beat(&["envoy"]).await;
    let path = format!("/v1/clusters/{cluster}/agents/{}", other.id);
    shows(&plane.admin, &path, |it| it["nodes"][0]["id"] == "envoy").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_everything_is_loaded_streams_are_refused_and_not_served_empty() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    // A second port on the same database, whose control plane has loaded nothing.
    let key = AgentKey::open(&plane.dir.path().join("agent-key")).unwrap();
    let stop = CancellationToken::new();
    let platform = Operation {
        store: plane.running.store.clone(),
        clock: Clock::system(),
        upstreams: Arc::default(),
        claims: Arc::default(),
        admission: Admission::new(RestRates::default()),
        actor: Actor::Platform,
        scope: TenantScope::platform(),
        request_id: String::new(),
        tightens: false,
    };
    let (planes, allow) = (ClusterResources::default(), Duplicates::Allow);
    let hub = Hub::start(platform, key, planes, allow, stop.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(hub.serve(listener, None, Limits::agents()));
    refused(delta(address, &agent.credential).await, Code::Unavailable);
    refused(Report::open(address, &agent.credential).await, Code::Unavailable);
    // Renewal does not depend on the load.
    renew(address, &agent.credential).await.unwrap();
    refused(delta_with(address, MetadataMap::new()).await, Code::Unauthenticated);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_stops_says_so_on_every_stream() {
    let plane = ControlPlane::start().await;
    let cluster = cluster(&plane).await;
    let agent = Agent::start(&plane, &cluster).await;
    let report = agent.report().await;
    report.beat(&[]).await;
    let before = std::time::Instant::now();
    plane.running.shutdown().await;
    assert!(before.elapsed() < std::time::Duration::from_secs(4), "streams held it up");
    assert_eq!(report.end().await.code(), Code::Unavailable);
    agent.held.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_report_stream_ends_the_first() {
    let plane = ControlPlane::start().await;
    let cluster = cluster(&plane).await;
    let agent = Agent::start(&plane, &cluster).await;
    let first = agent.report().await;
    let _second = agent.report().await;
    assert_eq!(first.end().await.code(), Code::Aborted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_see_metrics_and_nobody_else_does() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    assert_eq!(plane.nobody().get("/metrics").await.status, 401);
    assert_eq!(shop.provider.get("/metrics").await.status, 403);
    let seen = plane.admin.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(seen.status(), 200);
    let text = seen.text().await.unwrap();
    for name in ["imp_compiled_subjects_total", "imp_cluster_resources_revision", "xds_acks_total"]
    {
        assert!(text.contains(name), "{name} is not in:\n{text}");
    }
}
