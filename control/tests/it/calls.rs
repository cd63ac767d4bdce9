//! Every call of the agents' port and who may make it, method by method, so that a new one cannot
//! be forgotten.

use std::net::SocketAddr;

use chrono::TimeDelta;
use imp_control::hub::calls::Method;
use imp_control::hub::identity::AgentKey;
use imp_core::{AgentId, ClusterId};
use imp_grammar::proof::{self, CLOCK_HEADER};
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_client::AgentServiceClient;
use imp_proto::{config, method};
use imp_xds::testing::FakeClient;
use imp_xds::wire::DeltaDiscoveryRequest;
use prost::Name as _;
use serde_json::json;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::agent::{
    Agent, Credential, Report, channel, delta_with, register, registration_token, renew,
    renew_with, with,
};
use crate::control_plane::{ControlPlane, Shop};

async fn cluster(plane: &ControlPlane, name: &str) -> String {
    let made = plane.admin.make("clusters", json!({ "name": name })).await;
    made["id"].as_str().unwrap().to_owned()
}

async fn call(address: SocketAddr, method: Method, metadata: MetadataMap) -> Result<(), Status> {
    match method {
        Method::Register => {
            let request = with(pb::RegisterRequest::default(), metadata);
            AgentServiceClient::new(channel(address)).register(request).await.map(drop)
        }
        Method::Renew => renew_with(address, metadata).await.map(drop),
        Method::Report => Report::open_with(address, metadata).await.map(drop),
        Method::Delta => delta_with(address, metadata).await,
    }
}

#[track_caller]
fn refused<T>(what: &str, method: Method, outcome: Result<T, Status>, code: Code) -> Status {
    let Err(status) = outcome else { panic!("{method:?} with {what}: let in") };
    assert_eq!(status.code(), code, "{method:?} with {what}: {status}");
    status
}

#[test]
fn the_table_holds_every_method_of_the_service() {
    let contract = include_str!("../../../proto/imp/agent/v1/agent.proto");
    let methods = contract.lines().filter_map(|line| line.trim().strip_prefix("rpc "));
    let mut expected: Vec<String> = methods
        .map(|line| line.split('(').next().unwrap())
        .map(|name| format!("/imp.agent.v1.AgentService/{name}"))
        .collect();
    expected.push(method::DELTA.to_owned());
    assert_eq!(Method::ALL.map(|method| method.path().to_owned()).to_vec(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_that_is_not_in_the_table_leads_nowhere() {
    let plane = ControlPlane::start().await;
    let here = cluster(&plane, "here").await;
    let agent = Agent::start(&plane, &here).await;
    let http = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    for path in [
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        "/imp.agent.v1.AgentService/report",
        "/imp.agent.v1.AgentService/Report/",
        "//imp.agent.v1.AgentService/Report",
        "/imp.agent.v1.AgentService/",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/v1/clusters",
        "/",
    ] {
        let url = format!("http://{}{path}", plane.running.agent_addr);
        let headers = agent.credential.metadata(path).into_headers();
        let request = http.post(url).headers(headers).header("content-type", "application/grpc");
        let answer = request.send().await.unwrap();
        let status = answer.headers().get("grpc-status").unwrap().to_str().unwrap();
        assert_eq!(status, (Code::Unimplemented as i32).to_string(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_refuses_who_does_not_prove_who_he_is() {
    let plane = ControlPlane::start().await;
    let (address, here) = (plane.running.agent_addr, cluster(&plane, "here").await);
    let agent = Agent::start(&plane, &here).await;
    let own = &agent.credential;
    let token = registration_token(&plane.admin, &here).await;
    let (id, at): (AgentId, ClusterId) = (agent.id.parse().unwrap(), here.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let theirs = AgentKey::open(&dir.path().join("key")).unwrap();
    let ours = AgentKey::open(&plane.dir.path().join("agent-key")).unwrap();
    let (now, key) = (plane.now.get(), own.key.thumbprint());
    let signed = |by: &AgentKey, id, at, key: &str| {
        own.with_jwt(&by.issue(id, at, key, 1, now).unwrap().jwt)
    };
    let thief = Credential { jwt: own.jwt.clone(), ..Credential::fresh(&plane.now) };
    let foreign = signed(&theirs, id, at, &key);
    let unknown = signed(&ours, AgentId::new(), at, &key);
    let moved = signed(&ours, id, ClusterId::new(), &key);
    let rebound = Credential {
        jwt: ours.issue(id, at, &thief.key.thumbprint(), 1, now).unwrap().jwt,
        ..thief.clone()
    };
    // A renewal invalidates the token that all others are tried with.
    let mut methods = Method::ALL;
    methods.sort_by_key(|method| *method == Method::Renew);
    for method in methods {
        let path = method.path();
        let good = own.metadata(path);
        let without = |name: &'static str| {
            let mut headers = own.metadata(path);
            headers.remove(name);
            headers
        };
        let mut twice = own.metadata(path);
        twice.append(proof::HEADER, own.metadata(path).get(proof::HEADER).unwrap().clone());
        let mut other = own.metadata("/imp.agent.v1.AgentService/Other");
        other.insert("authorization", good.get("authorization").unwrap().clone());
        let refusals = [
            ("nothing", MetadataMap::new()),
            ("a token without proof", without(proof::HEADER)),
            ("two proofs", twice),
            ("the proof of another call", other),
            ("a proof of another token", {
                let mut headers = own.with_jwt("another").metadata(path);
                headers.insert("authorization", good.get("authorization").unwrap().clone());
                headers
            }),
        ];
        for (what, headers) in refusals {
            refused(what, method, call(address, method, headers).await, Code::Unauthenticated);
        }
        if method == Method::Register {
            continue; // there is no token yet
        }
        let bearer = |token: &str| {
            let mut headers = own.metadata(path);
            headers.insert("authorization", format!("Bearer {token}").parse().unwrap());
            headers
        };
        let refusals = [
            ("a proof without token", without("authorization")),
            ("the token as a bearer", bearer(&own.jwt)),
            ("an API token", bearer(plane.admin.token.as_deref().unwrap())),
            ("a registration token", own.with_jwt(&token).metadata(path)),
            ("no JWT", own.with_jwt("x").metadata(path)),
            ("a stolen token and another key", thief.metadata(path)),
            ("a token of another control plane", foreign.metadata(path)),
            ("a token of an unknown agent", unknown.metadata(path)),
            ("a token of another cluster", moved.metadata(path)),
            ("a token bound to a key that never registered", rebound.metadata(path)),
        ];
        for (what, headers) in refusals {
            refused(what, method, call(address, method, headers).await, Code::Unauthenticated);
        }
        call(address, method, good.clone()).await.unwrap();
        let again = call(address, method, good).await;
        refused("a proof that was used", method, again, Code::Unauthenticated);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_agent_makes_no_call() {
    let plane = ControlPlane::start().await;
    let (address, here) = (plane.running.agent_addr, cluster(&plane, "here").await);
    let agent = Agent::start(&plane, &here).await;
    let path = format!("/v1/clusters/{here}/agents/{}", agent.id);
    assert_eq!(plane.admin.delete(&path).await.status, 204);
    for method in [Method::Renew, Method::Report, Method::Delta] {
        let headers = agent.credential.metadata(method.path());
        let outcome = call(address, method, headers).await;
        refused("a revoked identity", method, outcome, Code::PermissionDenied);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_token_ends_the_one_before_and_a_lost_answer_locks_nobody_out() {
    let plane = ControlPlane::start().await;
    let (address, here) = (plane.running.agent_addr, cluster(&plane, "here").await);
    let agent = Agent::start(&plane, &here).await;
    let first = &agent.credential;
    let second = first.with_jwt(&renew(address, first).await.unwrap().jwt);
    assert!(agent.held.is_connected(), "what is open stays open");
    for method in [Method::Report, Method::Delta] {
        let outcome = call(address, method, first.metadata(method.path())).await;
        let status = refused("the former token", method, outcome, Code::Unauthenticated);
        assert!(status.message().contains("replaced"), "{status}");
        call(address, method, second.metadata(method.path())).await.unwrap();
    }
    // The answer with the second one may have been lost, more than once.
    for _ in 0..3 {
        let again = first.with_jwt(&renew(address, first).await.unwrap().jwt);
        call(address, Method::Delta, again.metadata(method::DELTA)).await.unwrap();
    }
    let third = first.with_jwt(&renew(address, &second).await.unwrap().jwt);
    let outcome = renew(address, first).await;
    refused("a token two renewals old", Method::Renew, outcome, Code::Unauthenticated);
    call(address, Method::Delta, third.metadata(method::DELTA)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_told_the_right_one() {
    let plane = ControlPlane::start().await;
    let (address, here) = (plane.running.agent_addr, cluster(&plane, "here").await);
    let agent = Agent::start(&plane, &here).await;
    for method in Method::ALL {
        let token = if method == Method::Register { "" } else { &agent.credential.jwt };
        let late = agent.credential.with_jwt(token).metadata(method.path());
        plane.now.advance(TimeDelta::seconds(62));
        let outcome = call(address, method, late).await;
        let status = refused("an old proof", method, outcome, Code::Unauthenticated);
        let told = status.metadata().get(CLOCK_HEADER).unwrap().to_str().unwrap();
        assert_eq!(told, plane.now.get().timestamp_millis().to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_sees_and_touches_its_own_cluster_whatever_it_asks_for() {
    let plane = ControlPlane::start().await;
    let (shop, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "zeta").await);
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let publish = config::Publish::type_url();
    let headers = agent.credential.copied("second").metadata(method::DELTA);
    let at = channel(plane.running.agent_addr);
    let stream = FakeClient::connect_with(at, headers, "agent").await.unwrap();
    // It claims the other cluster as its own, and uses the id of the other's publish.
    let mut stream = stream.in_cluster(other.id("clusters"));
    let names = ["*", other.id("product-publishes")].map(str::to_owned).to_vec();
    let request = DeltaDiscoveryRequest {
        type_url: publish.clone(),
        resource_names_subscribe: names,
        ..Default::default()
    };
    stream.send(request).await.unwrap();
    let mut seen = Vec::new();
    while !seen.contains(&shop.id("product-publishes").to_owned()) {
        let (upserts, _) = stream.accept().await.unwrap();
        seen.extend(upserts.into_iter().map(|(name, _)| name));
    }
    assert!(stream.is_quiet(std::time::Duration::from_millis(200)).await);
    assert_eq!(seen, [shop.id("product-publishes")]);
    // Its report on the other's publish is ignored.
    let mut report = agent.report().await;
    report.statuses(vec![crate::agent::status(other.id("product-publishes"), 1, [1, 0, 0])]).await;
    report.usage(1, Vec::new()).await;
    let path = other.path("product-publishes");
    let shown = plane.admin.get(&path).await.ok();
    assert_eq!(shown["nodes"], json!({ "acked": 0, "nacked": 0, "behind": 0 }), "{shown:#}");
    // A renewal stays in its cluster.
    let renewed = renew(plane.running.agent_addr, &agent.credential).await.unwrap();
    let claims = renewed.jwt.split('.').nth(1).unwrap();
    use base64::Engine as _;
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["cluster"], shop.id("clusters"));
    assert_eq!(claims["cnf"]["jkt"], agent.credential.key.thumbprint());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_and_refusals_are_in_the_audit_trail() {
    let plane = ControlPlane::start().await;
    let (address, here) = (plane.running.agent_addr, cluster(&plane, "here").await);
    let token = registration_token(&plane.admin, &here).await;
    let (registered, credential) = register(&plane, &token).await.unwrap();
    let id: AgentId = registered.agent_id.parse().unwrap();
    let store = &plane.running.store;
    let rows = imp_store::audit::of_object(store, id).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].operation, "agents.register");
    assert_eq!(rows[0].actor, imp_store::audit::Actor::Agent(id));
    assert!(rows[0].detail.contains(&here) && !rows[0].detail.contains(&token), "{rows:?}");
    let path = format!("/v1/clusters/{here}/agents/{id}");
    assert_eq!(plane.admin.delete(&path).await.status, 204);
    for _ in 0..5 {
        renew(address, &credential).await.unwrap_err();
    }
    register(&plane, &token).await.unwrap_err();
    let operations = crate::agent::eventually("a row of the refusals", || async {
        let rows = imp_store::audit::of_object(store, id).await.unwrap();
        let operations: Vec<String> = rows.into_iter().map(|row| row.operation).collect();
        operations.contains(&"agents.refuse".to_owned()).then_some(operations)
    })
    .await;
    assert_eq!(
        operations,
        ["agents.register", "agents.revoke", "agents.refuse"],
        "one row a minute"
    );
    crate::agent::eventually("a row of the refused token", || async {
        let rows = imp_store::audit::of_object(store, uuid::Uuid::nil()).await.unwrap();
        rows.iter().any(|row| row.operation == "agents.refuse").then_some(())
    })
    .await;
}
