//! From publishes to objects, and from conditions to statuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::http::StatusCode;
use imp_agent::app::Running;
use imp_agent::config::{Config, GatewayApiFlags, KubeFlags};
use imp_proto::config as pb;
use pb::publish::{AuthMode, Delivery};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::api_server::ApiServer;
use crate::control::{Control, TOKEN};
use crate::fixtures::{self, host, id};
use crate::rig::{self, active, admin, config, control_with, eventually, reported};

struct Rig {
    control: Control,
    api: ApiServer,
    agent: Running,
    state: tempfile::TempDir,
}

pub(super) fn gateway(class: &str) -> pb::Gateway {
    pb::Gateway { gateway_class: class.into(), ..fixtures::gateway(8_080) }
}

pub(super) fn public(number: usize, revision: u64) -> pb::Publish {
    pb::Publish {
        auth_mode: AuthMode::None.into(),
        delivery: Delivery::Crd.into(),
        revision,
        ..fixtures::publish(number, 9_000)
    }
}

pub(super) fn with(api: &ApiServer, control: &Control, state: &std::path::Path) -> Config {
    Config {
        registration_token: Some(TOKEN.into()),
        kube: KubeFlags { kubeconfig: Some(api.kubeconfig(state)), ..KubeFlags::default() },
        gateway_api: GatewayApiFlags {
            gateway_class: vec!["envoy-gateway=eg".parse().unwrap(), "traefik".parse().unwrap()],
            gateway_api_namespace: "edge".into(),
            ..GatewayApiFlags::default()
        },
        ..config(&control.url(), state)
    }
}

impl Rig {
    async fn start(class: &str) -> Self {
        let (control, api) = (control_with(0).await, ApiServer::start().await);
        control.state.set(&gateway(class));
        let state = tempfile::tempdir().unwrap();
        let agent = rig::start(with(&api, &control, state.path())).await.unwrap();
        rig::ready(&agent).await;
        Self { control, api, agent, state }
    }

    async fn has(&self, kind: &str, name: &str) -> Value {
        eventually(&format!("{kind} {name}"), || {
            self.closed();
            self.api.find(kind, name)
        })
        .await
    }

    /// The controller accepts the gateway and its policies, without which no publish is applied.
    fn closed(&self) {
        self.api.accept_if(|object| {
            object["metadata"]["labels"]["imp-gateway.io/of-publish"].is_null()
        });
    }

    /// The controller accepts until the publish is active.
    async fn accepted(&self, number: usize, revision: u64) {
        eventually("active", || {
            self.api.accept();
            self.control.state.status(&id(1, number)).filter(active(revision, 1))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_is_active_when_its_controller_says_so_and_its_objects_go_with_it() {
    let rig = Rig::start("envoy-gateway").await;
    assert!(rig.api.names().is_empty(), "a gateway alone is nothing");
    rig.control.state.set(&public(1, 1));
    let route = format!("imp-{}-r0", id(1, 1));
    let found = rig.has("HTTPRoute", &route).await;
    assert_eq!(found["spec"]["hostnames"], json!([host(1)]));
    rig.has("Gateway", &format!("imp-{}", fixtures::GATEWAY)).await;
    let behind = |status: &imp_proto::agent::PublishStatus| status.nodes_behind == 1;
    reported(&rig.control, 1, "waits for the controller", behind).await;
    rig.accepted(1, 1).await;

    // The controller refuses the next revision; both sides keep their words.
    let mut second = public(1, 2);
    second.base_path = "/v2".into();
    rig.control.state.set(&second);
    eventually("refused", || {
        rig.api.change(|object| {
            let refused = object["kind"] == "HTTPRoute" && object["metadata"]["generation"] == 2;
            let before = object.clone();
            if refused {
                object["status"] = json!({ "parents": [{
                    "parentRef": object["spec"]["parentRefs"][0],
                    "conditions": [{ "type": "Accepted", "status": "False", "reason": "UnsupportedValue",
                        "message": "no such thing", "observedGeneration": 2 }],
                }]});
            }
            *object != before
        });
        let status = rig.control.state.status(&id(1, 1))?;
        let error = status.error.filter(|error| error.code == "gateway_api_refused")?;
        error.hint.contains("UnsupportedValue: no such thing").then_some(())
    })
    .await;
    rig.accepted(1, 2).await;

    rig.control.state.remove::<pb::Publish>(&id(1, 1));
    eventually("everything is gone", || rig.api.names().is_empty().then_some(())).await;
    rig.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_changes_is_put_right_and_told_and_what_is_old_is_pruned_after_a_restart() {
    let rig = Rig::start("envoy-gateway").await;
    for number in [1, 2] {
        rig.control.state.set(&public(number, 1));
        rig.accepted(number, 1).await;
    }
    let route = format!("imp-{}-r0", id(1, 1));
    rig.api.change(|object| {
        let ours = object["metadata"]["name"] == *route && object["kind"] == "HTTPRoute";
        if ours {
            object["spec"]["hostnames"] = json!(["theirs.example.com"]);
            object["metadata"]["managedFields"] =
                json!([{ "manager": "somebody", "operation": "Update", "time": "2026-01-01T00:00:00Z" }]);
        }
        ours
    });
    eventually("put right", || {
        let now = rig.api.find("HTTPRoute", &route)?;
        (now["spec"]["hostnames"] == json!([host(1)])).then_some(())
    })
    .await;
    let told = |status: &imp_proto::agent::PublishStatus| {
        status.conditions.iter().any(|it| it.corrected_at_ms != 0)
    };
    let told = reported(&rig.control, 1, "has drifted", told).await;
    let [drift] = &told.conditions[..] else { panic!("{told:?}") };
    assert_eq!((&*drift.r#type, &*drift.field), ("drifted", "/spec/hostnames"));
    assert_eq!((&*drift.by, &*drift.reason), ("somebody", "corrected"));
    assert_eq!(drift.object, format!("HTTPRoute edge/{route}"));
    assert!(drift.since_ms > 0 && drift.corrected_at_ms >= drift.since_ms);
    let other = rig.control.state.status(&id(1, 2)).unwrap();
    assert_eq!(other.conditions, [], "what is another's is not told of it");
    let (_, status) = admin(&rig.agent, "/status").await;
    let status: Value = serde_json::from_str(&status).unwrap();
    let drift = &status["drifts"][0];
    assert_eq!((&drift["field"], &drift["by"]), (&json!("/spec/hostnames"), &json!("somebody")));

    // What is the gateway's concerns all of its publishes.
    let name = format!("imp-{}", fixtures::GATEWAY);
    rig.api.change(|object| {
        let ours = object["metadata"]["name"] == *name && object["kind"] == "Gateway";
        if ours {
            object["spec"]["gatewayClassName"] = json!("theirs");
        }
        ours
    });
    let of_gateway = |status: &imp_proto::agent::PublishStatus| {
        let mut said = status.conditions.iter();
        said.any(|it| it.object == format!("Gateway edge/{name}") && it.reason == "corrected")
    };
    for number in [1, 2] {
        reported(&rig.control, number, "has a gateway that has drifted", of_gateway).await;
    }

    // It restarts, and meanwhile a publish has gone and somebody has made an object of ours.
    let Rig { control, api, agent, state } = rig;
    agent.shutdown().await;
    control.state.remove::<pb::Publish>(&id(1, 2));
    let agent = rig::start(with(&api, &control, state.path())).await.unwrap();
    let other = format!("imp-{}-r0", id(1, 2));
    eventually("pruned", || api.find("HTTPRoute", &other).is_none().then_some(())).await;
    assert!(api.find("HTTPRoute", &route).is_some());
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_class_cannot_say_has_failed_with_the_reason_and_moves_when_the_class_changes() {
    let rig = Rig::start("traefik").await;
    let mut keyed = public(1, 1);
    keyed.auth_mode = AuthMode::ApiKey.into();
    rig.control.state.set(&keyed);
    let lacks = |status: &imp_proto::agent::PublishStatus| {
        status.error.as_ref().is_some_and(|error| error.hint.contains("'decisions'"))
    };
    reported(&rig.control, 1, "cannot be asked about", lacks).await;
    let mut plain = public(1, 2);
    plain.api_services[0].backends[0].connect_timeout_ms = 0;
    rig.control.state.set(&plain);
    eventually("a service", || {
        rig.api.names().iter().any(|name| name.starts_with("Service ")).then_some(())
    })
    .await;
    rig.accepted(1, 2).await;
    rig.control.state.set(&gateway("envoy-gateway"));
    eventually("a backend in its place", || {
        rig.api.accept();
        let names = rig.api.names();
        let any = |kind: &str| names.iter().any(|name| name.starts_with(kind));
        (any("Backend ") && !any("Service ")).then_some(())
    })
    .await;
    rig.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_api_server_nothing_is_taken_for_served() {
    let control = control_with(0).await;
    control.state.set(&gateway("envoy-gateway"));
    control.state.set(&public(1, 1));
    let state = tempfile::tempdir().unwrap();
    let agent = rig::agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    let rejected = |status: &imp_proto::agent::PublishStatus| {
        status.error.as_ref().is_some_and(|error| error.hint.contains("has no API server"))
    };
    reported(&control, 1, "is rejected", rejected).await;
    let mut by_xds = public(1, 2);
    by_xds.delivery = Delivery::Auto.into();
    control.state.set(&by_xds);
    let fine =
        |status: &imp_proto::agent::PublishStatus| status.revision == 2 && status.error.is_none();
    reported(&control, 1, "is for Envoys", fine).await;
    agent.shutdown().await;
}

/// A proxy that answers with a mark of its own.
async fn proxy(mark: &Arc<AtomicU64>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mark = mark.clone();
    let answer = move || async move {
        let mark = mark.load(Ordering::Relaxed);
        let location = format!("http://m{mark}.probe.invalid/");
        // Some proxies write a page.
        (StatusCode::FOUND, [("location", location)], "x".repeat(100_000))
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_proxies_do_not_take_is_not_active_and_is_when_they_do() {
    let has = Arc::new(AtomicU64::new(1));
    let port = proxy(&has).await;
    let (control, api) = (control_with(0).await, ApiServer::start().await);
    control
        .state
        .set(&pb::Gateway { gateway_class: "envoy-gateway".into(), ..fixtures::gateway(port) });
    let state = tempfile::tempdir().unwrap();
    let agent = rig::start(with(&api, &control, state.path())).await.unwrap();
    rig::ready(&agent).await;
    control.state.set(&public(1, 1));
    let addresses = || {
        api.change(|object| {
            let is_new = object["kind"] == "Gateway" && object["status"]["addresses"].is_null();
            if is_new {
                object["status"]["addresses"] =
                    json!([{ "type": "IPAddress", "value": "127.0.0.1" }]);
            }
            is_new
        });
        api.accept();
    };
    let gateway = format!("imp-{}", fixtures::GATEWAY);
    eventually("the Gateway", || api.find("Gateway", &gateway)).await;
    // The controller has accepted everything, also the route with the mark; the proxies stay behind.
    let error = eventually("not served", || {
        addresses();
        let status = control.state.status(&id(1, 1))?;
        assert!(!active(1, 1)(&status), "{status:?}");
        status.error.filter(|error| error.code == "not_served")
    })
    .await;
    assert!(error.hint.contains("proxies"), "{error:?}");

    let marked = api.find("HTTPRoute", &format!("imp-{}-probe", fixtures::GATEWAY)).unwrap();
    let host = marked["spec"]["rules"][0]["filters"][0]["requestRedirect"]["hostname"].clone();
    let mark = host.as_str().unwrap().strip_prefix('m').unwrap().split('.').next().unwrap();
    has.store(mark.parse().unwrap(), Ordering::Relaxed);
    reported(&control, 1, "served", active(1, 1)).await;

    // The next revision waits for the next mark.
    has.store(u64::MAX, Ordering::Relaxed);
    control.state.set(&public(1, 2));
    eventually("served at 2", || {
        addresses();
        control.state.status(&id(1, 1)).filter(active(2, 1))
    })
    .await;

    // A mark that is not accepted says nothing of proxies: conditions alone count.
    has.store(1, Ordering::Relaxed);
    control.state.set(&public(1, 3));
    let told = eventually("told of 3", || {
        api.accept_if(|object| object["metadata"]["labels"]["imp-gateway.io/probe"].is_null());
        let told = |it: &imp_proto::agent::PublishStatus| it.error.is_some() || active(3, 1)(it);
        control.state.status(&id(1, 1)).filter(told)
    })
    .await;
    assert!(active(3, 1)(&told), "{told:?}");
    agent.shutdown().await;
}
