//! Tests of a control plane whose resource set has shrunk suddenly.

use std::process::Command;
use std::time::Duration;

use imp_agent::app::Running;
use imp_proto::config as pb;
use imp_xds::{Change, ResourceSet};
use prost::Name as _;

use crate::control::{Control, resource};
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, id};
use crate::rig::{active, admin, agent, control_with, eventually, ready, reported, until_status};

const ALL: usize = 20;

/// Starts an agent with a resource set of this many publishes, and one Envoy.
async fn serving(control: &Control, state: &std::path::Path) -> (Running, FakeEnvoy) {
    let agent = agent(&control.url(), state).await;
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    for number in 0..ALL {
        reported(control, number, "is active", active(1, 1)).await;
    }
    (agent, envoy)
}

/// Two subscriptions, each with a key.
fn sell(control: &Control) {
    control.state.set(&fixtures::entitlement(vec![]));
    control.state.set(&fixtures::credential());
    control.state.set(&pb::Entitlement { id: id(6, 2), ..fixtures::entitlement(vec![]) });
    let key_sha256 = fixtures::hash("another").into();
    control.state.set(&pb::Credential { id: id(7, 2), key_sha256, ..fixtures::credential() });
}

/// Restarts the control plane with another resource set.
async fn again_with(control: Control, fill: impl FnOnce(&ResourceSet)) -> Control {
    let (address, mut state) = control.stop();
    state.set = ResourceSet::default();
    state.set.apply(Change::default());
    fill(&state.set);
    Control::start_at(address, state).await
}

fn put<M: pb::Resource>(set: &ResourceSet, message: &M) {
    let mut change = Change::default();
    let (type_url, resource) = resource(message);
    change.upsert(type_url, resource);
    set.apply(change);
}

async fn status(agent: &Running) -> serde_json::Value {
    serde_json::from_str(&admin(agent, "/status").await.1).unwrap()
}

async fn until_withheld(control: &Control, agent: &Running, removals: usize) {
    let told = || {
        let beat = control.state.with(|shared| shared.heartbeat.clone())?;
        (beat.withheld_removals as usize == removals).then_some(())
    };
    eventually(&format!("{removals} are reported as held back"), told).await;
    let said = status(agent).await;
    assert_eq!(said["withheld"]["removals"], removals, "{said}");
}

fn publishes(agent: &Running) -> usize {
    agent.fleet.size().publishes
}

fn accept(agent: &Running, removals: Option<usize>) -> std::process::Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imp-agent"));
    command.env_clear().args(["accept-shrink", "--admin-listen", &agent.admin_addr.to_string()]);
    command.args(removals.map(|removals| format!("--removals={removals}")));
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_resource_set_after_a_reconnect_removes_nothing_until_a_person_accepts_it() {
    let control = control_with(ALL).await;
    sell(&control);
    let state = tempfile::tempdir().unwrap();
    let (agent, envoy) = serving(&control, state.path()).await;
    let key = Some(fixtures::KEY);
    assert_eq!(crate::door::knock(&agent.xds, &id(1, 0), key).await.status, 200);
    let held = envoy.held();

    // Additions and changes are applied all the same.
    let control = again_with(control, |set| {
        put(set, &fixtures::publish(ALL, 9_000));
    })
    .await;
    until_withheld(&control, &agent, ALL + 1).await;
    reported(&control, ALL, "is new", |status| status.revision == 1).await;
    assert_eq!(publishes(&agent), ALL + 1);
    assert!(held.keys().all(|name| envoy.held().contains_key(name)), "Envoy goes on as before");
    assert_eq!(crate::door::knock(&agent.xds, &id(1, 0), key).await.status, 200);
    let words = admin(&agent, "/readyz").await;
    assert_eq!(words.0, 200);
    assert!(words.1.contains("accept-shrink --removals 21"), "{}", words.1);
    assert!(admin(&agent, "/metrics").await.1.contains("imp_withheld_removals"));

    // Accepting requires the exact number.
    for wrong in [None, Some(20), Some(22)] {
        let output = accept(&agent, wrong);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("--removals 21"), "{said}");
    }
    assert_eq!(publishes(&agent), ALL + 1);
    let output = accept(&agent, Some(21));
    assert!(output.status.success(), "{output:?}");
    eventually("they are gone", || (publishes(&agent) == 1).then_some(())).await;
    until_withheld(&control, &agent, 0).await;
    until_status(&agent.xds, &id(1, ALL), fixtures::KEY, 401).await;
    let said = accept(&agent, None);
    assert!(String::from_utf8_lossy(&said.stderr).contains("nothing is held back"), "{said:?}");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_that_goes_at_once_on_a_running_stream_stays_and_returns_by_itself() {
    let control = control_with(ALL).await;
    sell(&control);
    let state = tempfile::tempdir().unwrap();
    let (agent, _envoy) = serving(&control, state.path()).await;
    let mut change = Change::default();
    (0..ALL).for_each(|number| change.remove(pb::Publish::type_url(), id(1, number)));
    change.remove(pb::Gateway::type_url(), fixtures::GATEWAY);
    control.state.set.apply(change);
    until_withheld(&control, &agent, ALL + 1).await;
    assert_eq!((publishes(&agent), agent.fleet.size().gateways), (ALL, 1));

    // After a restart it is read from disk, requested, and held back again.
    agent.shutdown().await;
    control.state.with(|shared| shared.heartbeat = None);
    let agent = crate::rig::agent(&control.url(), state.path()).await;
    ready(&agent).await;
    until_withheld(&control, &agent, ALL + 1).await;
    assert_eq!(publishes(&agent), ALL);

    // A revoked key stops at once, whatever is held back.
    let revoked =
        pb::Credential { state: pb::credential::State::Revoked.into(), ..fixtures::credential() };
    control.state.set(&revoked);
    crate::rig::until_status(&agent.xds, &id(1, 0), fixtures::KEY, 401).await;

    // The control plane has its resource set again.
    control.state.set(&fixtures::gateway(10_000));
    for number in 0..ALL - 1 {
        control.state.set(&fixtures::publish(number, 9_000));
    }
    until_withheld(&control, &agent, 0).await;
    eventually("one is really gone", || (publishes(&agent) == ALL - 1).then_some(())).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_one_by_one_goes_and_so_does_a_mass_of_keys() {
    let control = control_with(ALL).await;
    for number in 0..50 {
        let id = id(8, number);
        let key_sha256 = fixtures::hash(&format!("key-{number}")).into();
        control.state.set(&pb::Credential { id, key_sha256, ..fixtures::credential() });
    }
    control.state.set(&fixtures::entitlement(vec![]));
    let state = tempfile::tempdir().unwrap();
    let (agent, _envoy) = serving(&control, state.path()).await;
    crate::rig::until_status(&agent.xds, &id(1, 19), "key-49", 200).await;

    let mut change = Change::default();
    (0..50).for_each(|number| change.remove(pb::Credential::type_url(), id(8, number)));
    control.state.set.apply(change);
    crate::rig::until_status(&agent.xds, &id(1, 19), "key-49", 401).await;

    // The sender waits a second between removals.
    for number in 0..11 {
        control.state.remove::<pb::Publish>(&id(1, number));
        let left = ALL - 1 - number;
        eventually("one less", || (publishes(&agent) == left).then_some(())).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(status(&agent).await["withheld"]["removals"], 0);
    agent.shutdown().await;
}
