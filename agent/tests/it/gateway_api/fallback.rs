//! `delivery: auto` of a gateway with Envoys of ours: by Gateway API while none is connected.

use std::time::Duration;

use imp_agent::app::Running;
use imp_agent::config::{Config, GatewayApiFlags};
use imp_proto::agent::PublishStatus;
use imp_proto::config as pb;
use pb::publish::{AuthMode, Delivery};

use super::api_server::ApiServer;
use super::driver::{gateway, public, with};
use crate::control::Control;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, id};
use crate::rig::{self, active, control_with, eventually};

const AFTER: Duration = Duration::from_millis(600);

struct Rig {
    control: Control,
    api: ApiServer,
    agent: Running,
    state: tempfile::TempDir,
}

fn auto(number: usize, revision: u64) -> pb::Publish {
    pb::Publish { delivery: Delivery::Auto.into(), ..public(number, revision) }
}

fn falling(api: &ApiServer, control: &Control, state: &std::path::Path, after: Duration) -> Config {
    let config = with(api, control, state);
    let gateway_api = GatewayApiFlags { fallback_after: after, ..config.gateway_api };
    Config { gateway_api, ..config }
}

fn route(number: usize) -> String {
    format!("imp-{}-r0", id(1, number))
}

/// The publish says this of its delivery.
fn says(reason: &str) -> impl Fn(&PublishStatus) -> bool {
    move |status| {
        let said = status.conditions.iter().find(|it| it.r#type == "delivery");
        said.map_or("", |it| &it.reason) == reason
    }
}

impl Rig {
    async fn start(after: Duration) -> Self {
        let (control, api) = (control_with(0).await, ApiServer::start().await);
        control.state.set(&gateway("envoy-gateway"));
        let state = tempfile::tempdir().unwrap();
        let agent = rig::start(falling(&api, &control, state.path(), after)).await.unwrap();
        rig::ready(&agent).await;
        Self { control, api, agent, state }
    }

    fn envoy(&self, node: &str) -> FakeEnvoy {
        FakeEnvoy::start(&self.agent.xds, node)
    }

    fn has(&self, number: usize) -> bool {
        self.api.find("HTTPRoute", &route(number)).is_some()
    }

    async fn reported(&self, number: usize, what: &str, so: impl Fn(&PublishStatus) -> bool) {
        eventually(&format!("publish {number} {what}"), || {
            self.api.accept();
            self.control.state.status(&id(1, number)).filter(&so)
        })
        .await;
    }

    async fn falls(&self, number: usize, revision: u64) {
        let so = |it: &PublishStatus| active(revision, 1)(it) && says("no_envoy")(it);
        self.reported(number, "is active by Gateway API", so).await;
        assert!(self.has(number));
    }

    async fn is_direct(&self, number: usize, revision: u64) {
        let so = |it: &PublishStatus| active(revision, 1)(it) && says("")(it);
        self.reported(number, "is active at an Envoy", so).await;
        eventually("its route is gone", || (!self.has(number)).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_goes_by_gateway_api_while_no_envoy_is_there_and_back() {
    let rig = Rig::start(AFTER).await;
    rig.control.state.set(&auto(1, 1));
    // An Envoy is there from the start, and then it is not.
    let envoy = rig.envoy("first");
    rig.is_direct(1, 1).await;
    drop(envoy);
    rig.falls(1, 1).await;
    // A change is delivered as the first revision was.
    rig.control.state.set(&fixtures::at_revision(auto(1, 1), 2));
    rig.falls(1, 2).await;

    // Both deliver until the new Envoy has stayed.
    let envoy = rig.envoy("second");
    rig.reported(1, "is said to return", says("returning")).await;
    assert!(rig.has(1), "it stays while the Envoy is new");
    eventually("the Envoy has it", || envoy.runs("x-revision").then_some(())).await;
    rig.is_direct(1, 2).await;
    eventually("nothing is left", || rig.api.names().is_empty().then_some(())).await;
    rig.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_envoy_refuses_stays_by_gateway_api_and_holds_up_nothing_else() {
    let rig = Rig::start(AFTER).await;
    for number in [1, 2] {
        rig.control.state.set(&auto(number, 1));
    }
    for number in [1, 2] {
        rig.falls(number, 1).await;
    }
    let refused = fixtures::host(2);
    let taste = move |_: &str, resource: &imp_xds::Resource| {
        let bytes = resource.value();
        let has = bytes.windows(refused.len()).any(|at| at == refused.as_bytes());
        has.then(|| "no such thing".to_owned())
    };
    let envoy = FakeEnvoy::picky(&rig.agent.xds, "picky", "all", Box::new(taste));
    rig.is_direct(1, 1).await;
    let so = |it: &PublishStatus| active(1, 1)(it) && says("returning")(it);
    rig.reported(2, "serves by Gateway API still", so).await;
    assert!(rig.has(2));
    drop(envoy);
    rig.falls(2, 1).await;
    rig.falls(1, 1).await;
    let _envoy = rig.envoy("tolerant");
    for number in [1, 2] {
        rig.is_direct(number, 1).await;
    }
    rig.agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_auto_falls_back_and_a_restart_leaves_what_has() {
    let rig = Rig::start(AFTER).await;
    let mut only = auto(2, 1);
    only.delivery = Delivery::Xds.into();
    rig.control.state.set(&only);
    rig.control.state.set(&public(3, 1));
    rig.control.state.set(&auto(1, 1));
    rig.falls(1, 1).await;
    rig.reported(3, "by Gateway API only", |it| active(1, 1)(it) && it.conditions.is_empty()).await;
    assert!(rig.has(1) && !rig.has(2) && rig.has(3));
    // What only Envoys get waits for them.
    let waits = rig.control.state.status(&id(1, 2)).unwrap();
    assert_eq!((waits.acked_revision, waits.conditions.len()), (0, 0));

    let uid = |rig: &Rig| rig.api.find("HTTPRoute", &route(1)).unwrap()["metadata"].clone();
    let before = uid(&rig);
    let Rig { control, api, agent, state } = rig;
    agent.shutdown().await;
    let longer = Duration::from_secs(3600);
    let agent = rig::start(falling(&api, &control, state.path(), longer)).await.unwrap();
    let rig = Rig { control, api, agent, state };
    rig::ready(&rig.agent).await;
    let mut later = auto(4, 1);
    later.auth_mode = AuthMode::None.into();
    rig.control.state.set(&later);
    rig.falls(4, 1).await;
    rig.falls(1, 1).await;
    assert_eq!(uid(&rig)["generation"], before["generation"], "it was never taken away");
    rig.agent.shutdown().await;

    // Without the flag nothing is left of it.
    let Rig { control, api, state, .. } = rig;
    let agent = rig::start(falling(&api, &control, state.path(), Duration::ZERO)).await.unwrap();
    eventually("it is gone", || {
        let gone = |number| api.find("HTTPRoute", &route(number)).is_none();
        (gone(1) && gone(4) && !gone(3)).then_some(())
    })
    .await;
    agent.shutdown().await;
}
