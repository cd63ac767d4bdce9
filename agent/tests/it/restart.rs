//! Tests of restarts from disk.

use std::time::{Duration, Instant};

use imp_agent::config::Config;
use imp_proto::config as pb;

use crate::control::resource;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, POISON, at_revision, id, poisoned};
use crate::rig::{self, active, admin, agent, config, control_with, eventually, reported};

/// Nothing listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn from_disk_it_serves_the_same_at_once_and_a_reconnecting_envoy_is_sent_nothing() {
    let control = control_with(20).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let (xds, envoy) = (&first.xds.clone(), FakeEnvoy::start(&first.xds, "e1"));
    for number in 0..20 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    // The enforcement slot is subscribed by name, and named resources are always sent.
    let (held, received) = (envoy.held(), envoy.received());
    let control_url = control.url();
    drop(control);
    // The agent's own ports and the control plane's are closed to calls: they are in the listener.
    let admin_listen = first.admin_addr.to_string();
    first.shutdown().await;

    let started = Instant::now();
    let config = Config {
        xds_listen: Some(xds.clone()),
        admin_listen,
        ..config(&control_url, state.path())
    };
    let again = rig::start(config).await.unwrap();
    assert_eq!(admin(&again, "/readyz").await.0, 200);
    // For this build, beside other tests that sync; the benchmark holds the release build to one
    // second.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let status = eventually("all acknowledged by what Envoy holds", || {
        let statuses = again.fleet.statuses();
        let good = statuses.iter().all(|status| active(1, 1)(status));
        (good && envoy.connections() >= 2).then_some(statuses)
    })
    .await;
    assert_eq!(status.len(), 20);
    assert_eq!((envoy.held(), envoy.received()), (held.clone(), received));
    let fresh = FakeEnvoy::start(xds, "e2");
    eventually("a fresh Envoy has all of it", || (fresh.held() == held).then_some(())).await;
    again.shutdown().await;
}

#[tokio::test]
async fn without_state_and_control_plane_nobody_is_served() {
    let state = tempfile::tempdir().unwrap();
    let agent = agent(NOWHERE, state.path()).await;
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((envoy.connections(), envoy.received()), (envoy.connections(), 0));
    assert_eq!(admin(&agent, "/readyz").await.0, 503);
    agent.shutdown().await;
}

#[tokio::test]
async fn after_a_restart_it_asks_only_for_what_changed_meanwhile() {
    let control = control_with(5).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::start(&first.xds, "e1");
    reported(&control, 4, "is active", active(1, 1)).await;
    let (xds, received) = (&first.xds.clone(), envoy.received());
    // The agent's own ports are closed to calls, so they are in the listener.
    let admin_listen = first.admin_addr.to_string();
    first.shutdown().await;

    control.state.set(&at_revision(fixtures::publish(1, 9_000), 2));
    control.state.remove::<pb::Publish>(&id(1, 2));
    let config = Config {
        xds_listen: Some(xds.clone()),
        admin_listen,
        ..config(&control.url(), state.path())
    };
    let again = rig::start(config).await.unwrap();
    reported(&control, 1, "is active", active(2, 1)).await;
    eventually("one is gone", || (envoy.scopes().len() == 4).then_some(())).await;
    eventually("its cluster too", || (envoy.held().len() == 4 + 4 + 2).then_some(())).await;
    assert_eq!(envoy.received(), received + 3, "one scope, one scope and one cluster less");
    again.shutdown().await;
}

#[tokio::test]
async fn a_refused_revision_stays_refused_and_the_former_one_serves() {
    let control = control_with(2).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let xds = &first.xds.clone();
    let taste = |_: &str, resource: &imp_xds::Resource| {
        let bad = resource.value().windows(POISON.len()).any(|window| window == POISON.as_bytes());
        bad.then(|| "bad repetition".to_owned())
    };
    let envoy = FakeEnvoy::picky(xds, "e1", "all", Box::new(taste));
    reported(&control, 1, "is active", active(1, 1)).await;
    // A revision that would allow everybody fails; its rules must not outlive its routes.
    let mut open = poisoned(fixtures::publish(1, 9_000), 2);
    open.auth_mode = pb::publish::AuthMode::None.into();
    control.state.set(&open);
    reported(&control, 1, "failed", |status| status.error.is_some()).await;
    let (held, received) = (envoy.held(), envoy.received());
    assert_eq!(crate::door::knock(xds, &id(1, 1), None).await.status, 401);
    // The agent's own ports are closed to calls, so they are in the listener.
    let admin_listen = first.admin_addr.to_string();
    first.shutdown().await;

    control.state.with(|shared| shared.statuses.clear());
    let config = Config {
        xds_listen: Some(xds.clone()),
        admin_listen,
        ..config(&control.url(), state.path())
    };
    let again = rig::start(config).await.unwrap();
    let status = reported(&control, 1, "is still failed", |s| s.nodes_nacked + s.nodes_behind == 1);
    let status = status.await;
    let error = status.error.unwrap();
    assert!(error.envoy_message.contains("bad repetition"), "{error:?}");
    assert_eq!((status.revision, status.acked_revision), (2, 1));
    assert_eq!((envoy.held(), envoy.received()), (held, received), "it was not tried again");
    assert_eq!(crate::door::knock(xds, &id(1, 1), None).await.status, 401);
    control.state.set(&at_revision(fixtures::publish(1, 9_000), 3));
    reported(&control, 1, "is mended", active(3, 1)).await;
    again.shutdown().await;
}

#[tokio::test]
async fn an_unfinished_first_delivery_is_not_served_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    {
        let (lkg, _) = imp_agent::lkg::Lkg::open(state.path()).unwrap();
        let (url, publish) = resource(&fixtures::publish(0, 9_000));
        let key = format!("{url} {}", publish.name());
        lkg.put(imp_agent::lkg::Table::Resources, key, publish.value().clone());
        lkg.close();
    }
    let agent = agent(NOWHERE, state.path()).await;
    assert_eq!(admin(&agent, "/readyz").await.0, 503);
    agent.shutdown().await;
}
