//! Tests of the life of a publish: served, acknowledged, rejected, refused, removed.

use std::time::Duration;

use imp_proto::config as pb;
use imp_translate::xds::SCOPE;
use imp_xds::testing::FakeClient;

use crate::control::resource;
use crate::fake_envoy::{FakeEnvoy, Taste, dial};
use crate::fixtures::{self, GATEWAY, POISON, POISON_WORDS, at_revision, id, poisoned};
use crate::rig::{self, active, admin, agent, control_with, eventually, reported};

/// Rejects what Envoy would reject.
fn like_envoy() -> Taste {
    Box::new(|type_url, resource| {
        let bytes = resource.value();
        let bad = type_url == SCOPE
            && bytes.windows(POISON.len()).any(|window| window == POISON.as_bytes());
        bad.then(|| POISON_WORDS.to_owned())
    })
}

#[tokio::test]
async fn a_publish_is_active_once_every_connected_envoy_has_it() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    let held = reported(&control, 0, "is held", |status| status.revision == 1).await;
    assert_eq!((held.acked_revision, held.nodes_acked), (0, 0), "nobody has it yet");

    let _first = FakeEnvoy::start(&agent.xds, "e1");
    reported(&control, 0, "is active", active(1, 1)).await;
    let second = FakeEnvoy::picky(&agent.xds, "e2", GATEWAY, Box::new(|_, _| None));
    reported(&control, 0, "is active on both", active(1, 2)).await;
    let nodes = eventually("two Envoys in the heartbeat", || {
        let heartbeat = control.state.with(|shared| shared.heartbeat.clone())?;
        let known = heartbeat.capabilities.unwrap_or_default();
        assert_eq!(
            known.policy_types,
            imp_proto::policies::TYPES,
            "each with its arm in both layers"
        );
        (heartbeat.nodes.len() == 2).then_some(heartbeat.nodes)
    })
    .await;
    let of = |id: &str| nodes.iter().find(|node| node.id == id).unwrap().clone();
    assert_eq!((of("e1").gateway_id, of("e2").gateway_id), (String::new(), GATEWAY.to_owned()));
    assert_eq!(of("e1").envoy_version, "1.40.0");

    control.state.set(&at_revision(fixtures::publish(0, 9_000), 2));
    reported(&control, 0, "is active at 2", active(2, 2)).await;
    drop(second);
    reported(&control, 0, "counts who is there", active(2, 1)).await;
    agent.shutdown().await;
}

#[tokio::test]
async fn an_envoy_that_does_not_answer_holds_the_revision_back() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let _quick = FakeEnvoy::start(&agent.xds, "quick");
    reported(&control, 0, "is active", active(1, 1)).await;
    let channel = dial(&agent.xds).await.unwrap();
    let mut mute = FakeClient::connect(channel, "mute").await.unwrap();
    mute.subscribe(SCOPE, &[]).await.unwrap();
    let behind = |status: &imp_proto::agent::PublishStatus| {
        (status.nodes_acked, status.nodes_behind) == (1, 1)
    };
    let status = reported(&control, 0, "waits for the mute one", behind).await;
    assert_eq!(status.acked_revision, 1, "who only catches up takes nothing back");
    control.state.set(&at_revision(fixtures::publish(0, 9_000), 2));
    let status = reported(&control, 0, "waits at 2", |s| s.revision == 2 && behind(s)).await;
    assert_eq!(status.acked_revision, 1, "not every Envoy has revision 2");
    drop(mute);
    reported(&control, 0, "does not wait for who left", active(2, 1)).await;
    agent.shutdown().await;
}

#[tokio::test]
async fn what_envoy_refuses_fails_alone_in_its_words_and_the_others_advance() {
    let control = control_with(10).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::picky(&agent.xds, "e1", "all", like_envoy());
    for number in 0..10 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    let good = envoy.held();

    // All ten change in one message; two of them share a host.
    let mut changes: Vec<pb::Publish> =
        (0..10).map(|n| at_revision(fixtures::publish(n, 9_000), 2)).collect();
    changes[3] = poisoned(fixtures::publish(3, 9_000), 2);
    changes[4].hostnames.push(fixtures::host(3));
    changes[4].base_path = "/four".into();
    control.state.apply(changes.iter().map(resource).collect());
    let failed = reported(&control, 3, "failed", |status| status.error.is_some()).await;
    let error = failed.error.unwrap();
    assert_eq!((failed.revision, failed.acked_revision, failed.nodes_nacked), (2, 1, 1));
    assert_eq!(error.code, "envoy_nack");
    assert!(error.envoy_message.contains(POISON_WORDS), "{error:?}");
    assert!(error.resource.contains(SCOPE) && error.resource.contains("h3.example.com"));
    for number in (0..10).filter(|number| *number != 3) {
        reported(&control, number, "advances", active(2, 1)).await;
    }
    let blamed = control.state.with(|shared| {
        let failed = shared.said.iter().filter(|status| status.error.is_some());
        failed.map(|status| status.publish_id.clone()).collect::<std::collections::BTreeSet<_>>()
    });
    assert_eq!(
        blamed.into_iter().collect::<Vec<_>>(),
        [id(1, 3)],
        "nobody else, not even for a moment"
    );
    assert_eq!(envoy.held().len(), good.len(), "the former revision still serves");

    control.state.set(&at_revision(fixtures::publish(3, 9_000), 3));
    reported(&control, 3, "is mended", active(3, 1)).await;
    agent.shutdown().await;
}

#[tokio::test]
async fn what_the_agent_cannot_read_is_refused_reported_and_not_held() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let first = agent(&control.url(), state.path()).await;
    let _envoy = FakeEnvoy::start(&first.xds, "e1");
    reported(&control, 0, "is active", active(1, 1)).await;

    let mut broken = fixtures::publish(0, 9_000);
    broken.revision = 2;
    broken.hostnames = vec!["not a host".into()];
    let mut strange = fixtures::publish(1, 9_000);
    strange.base_path = "no slash".into();
    control.state.apply(vec![
        resource(&broken),
        resource(&strange),
        resource(&fixtures::publish(2, 9_000)),
    ]);
    let status = reported(&control, 0, "is rejected", |status| status.error.is_some()).await;
    let error = status.error.unwrap();
    assert_eq!(
        (error.code.as_str(), status.revision, status.acked_revision),
        ("agent_rejected", 2, 1)
    );
    assert!(error.hint.contains("hostnames/0"), "{error:?}");
    reported(&control, 1, "is rejected", |status| status.error.is_some()).await;
    reported(&control, 2, "is not held up", active(1, 1)).await;

    // Not held: after a restart it is requested and reported again.
    first.shutdown().await;
    control.state.with(|shared| shared.statuses.clear());
    let again = rig::start(rig::config(&control.url(), state.path())).await.unwrap();
    reported(&control, 0, "is rejected again", |status| status.error.is_some()).await;
    control.state.set(&at_revision(fixtures::publish(0, 9_000), 3));
    reported(&control, 0, "is held again", |status| status.revision == 3 && status.error.is_none())
        .await;
    again.shutdown().await;
}

#[tokio::test]
async fn what_is_taken_away_goes_and_nothing_else() {
    let control = control_with(12).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    eventually("all scopes", || (envoy.scopes().len() == 12).then_some(())).await;
    // As many removals as may be made at once, in one message.
    for number in 0..10 {
        control.state.remove::<pb::Publish>(&id(1, number));
    }
    eventually("two scopes", || (envoy.scopes().len() == 2).then_some(())).await;
    let names = [10, 11].map(|number| {
        let host = Some(fixtures::host(number).into());
        imp_translate::xds::names::Place { port: 10_000, host }.name()
    });
    let held: std::collections::BTreeSet<_> = envoy.scopes().into_iter().collect();
    assert_eq!(held, names.into());
    let (_, status) = admin(&agent, "/status").await;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["publishes"].as_array().map(Vec::len), Some(2), "{status}");
    agent.shutdown().await;
}

#[tokio::test]
async fn a_publish_whose_gateway_comes_later_is_served_then() {
    let control = crate::control::Control::start().await;
    control.state.set(&fixtures::publish(0, 9_000));
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let _envoy = FakeEnvoy::start(&agent.xds, "e1");
    reported(&control, 0, "waits", |status| status.nodes_behind == 1).await;
    control.state.set(&fixtures::gateway(10_000));
    reported(&control, 0, "is active", active(1, 1)).await;
    agent.shutdown().await;
}

#[tokio::test]
async fn a_control_plane_that_is_not_ready_empties_nothing() {
    let control = control_with(3).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    eventually("all scopes", || (envoy.scopes().len() == 3).then_some(())).await;
    let (before, connections) = (envoy.received(), envoy.connections());

    let (address, content) = control.stop();
    let blank = crate::control::State { set: imp_xds::ResourceSet::new(), ..content.clone() };
    let not_ready = crate::control::Control::start_at(address, blank).await;
    eventually("tries", || not_ready.state.with(|s| (s.streams >= 4).then_some(()))).await;
    assert_eq!((envoy.scopes().len(), envoy.received()), (3, before));

    // It comes back with what it had: nothing is sent again, and changes continue.
    let (address, _) = not_ready.stop();
    let control = crate::control::Control::start_at(address, content).await;
    control.state.set(&fixtures::publish(3, 9_000));
    eventually("the new one", || (envoy.scopes().len() == 4).then_some(())).await;
    assert_eq!(envoy.received(), before + 2, "one cluster and one scope");
    assert_eq!(envoy.connections(), connections, "Envoy did not notice");
    tokio::time::timeout(Duration::from_secs(5), agent.shutdown()).await.unwrap();
}
