//! Tests of rejections by one Envoy: for it alone, and while it is connected.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imp_agent::app::Running;
use imp_proto::agent::PublishStatus;
use imp_proto::config as pb;
use imp_translate::xds::{LISTENER, SCOPE};

use crate::control::Control;
use crate::door::knock;
use crate::fake_envoy::{FakeEnvoy, Taste};
use crate::fixtures::{self, GATEWAY, id};
use crate::rig::{self, active, agent, config, control_with, reported};

const OTHER_GATEWAY: &str = "00000000-0000-7000-8000-000000000002";

fn refuses_everything() -> Taste {
    Box::new(|_, _| Some("no".to_owned()))
}

fn failed(status: &PublishStatus) -> bool {
    status.error.is_some() && status.nodes_acked == 0 && status.nodes_nacked > 0
}

async fn shop(publishes: usize) -> (Control, tempfile::TempDir, Running) {
    let control = control_with(publishes).await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    (control, state, agent)
}

#[tokio::test]
async fn an_envoy_that_refuses_everything_fails_nothing_that_another_takes() {
    let (control, _state, agent) = shop(3).await;
    let good = FakeEnvoy::start(&agent.xds, "good");
    for number in 0..3 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    let hostile = FakeEnvoy::picky(&agent.xds, "hostile", "all", refuses_everything());
    let partly = |status: &PublishStatus| {
        let nodes = (status.nodes_acked, status.nodes_nacked, status.nodes_behind);
        nodes == (1, 1, 0) && status.acked_revision == 1
    };
    reported(&control, 0, "is with one of two", partly).await;
    // A new publish meanwhile, of another tenant.
    control.state.set(&fixtures::publish(3, 9_000));
    let status = reported(&control, 3, "is with one of two", partly).await;
    assert!(status.error.unwrap().envoy_message.ends_with("no"));
    assert_eq!(good.scopes().len(), 4);
    assert_eq!(knock(&agent.xds, &id(1, 3), None).await.status, 401, "its rules are in force");
    drop(hostile);
    for number in 0..4 {
        reported(&control, number, "is active, without a redeploy", active(1, 1)).await;
    }
    agent.shutdown().await;
}

#[tokio::test]
async fn what_only_those_refused_who_are_gone_is_tried_again() {
    let (control, state, first) = shop(2).await;
    let hostile = FakeEnvoy::picky(&first.xds, "hostile", "all", refuses_everything());
    for number in 0..2 {
        reported(&control, number, "failed", failed).await;
    }
    let good = FakeEnvoy::start(&first.xds, "good");
    for number in 0..2 {
        let taken = |status: &PublishStatus| (status.acked_revision, status.nodes_acked) == (1, 1);
        reported(&control, number, "is with the one that came", taken).await;
    }
    drop(good);
    drop(hostile);
    control.state.set(&fixtures::at_revision(fixtures::publish(0, 9_000), 2));
    let hostile = FakeEnvoy::picky(&first.xds, "hostile", "all", refuses_everything());
    reported(&control, 0, "failed", |s| s.revision == 2 && failed(s)).await;
    // Also over a restart: the disk has who rejected it.
    drop(hostile);
    first.shutdown().await;
    control.state.with(|shared| shared.statuses.clear());
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    let _good = FakeEnvoy::start(&again.xds, "good");
    reported(&control, 0, "is active", active(2, 1)).await;
    again.shutdown().await;
}

#[tokio::test]
async fn an_envoy_of_one_gateway_hurts_no_other() {
    let (control, _state, agent) = shop(1).await;
    let mut other = fixtures::gateway(10_001);
    other.id = OTHER_GATEWAY.to_owned();
    control.state.set(&other);
    let mut elsewhere = fixtures::publish(1, 9_000);
    elsewhere.gateway_id = OTHER_GATEWAY.to_owned();
    // The same backend, so the same cluster.
    let backends = fixtures::publish(0, 9_000).api_services.remove(0).backends;
    elsewhere.api_services[0].backends = backends.clone();
    elsewhere.api_services[0].routes[0].backends =
        vec![pb::WeightedBackend { backend_id: backends[0].id.clone(), weight: 1 }];
    let _hostile = FakeEnvoy::picky(&agent.xds, "hostile", OTHER_GATEWAY, refuses_everything());
    control.state.set(&elsewhere);
    reported(&control, 1, "failed", failed).await;
    let good = FakeEnvoy::picky(&agent.xds, "good", GATEWAY, Box::new(|_, _| None));
    reported(&control, 0, "is active", active(1, 1)).await;
    assert_eq!(good.scopes().len(), 1);
    control.state.set(&fixtures::at_revision(fixtures::publish(0, 9_000), 2));
    reported(&control, 0, "goes on", active(2, 1)).await;
    agent.shutdown().await;
}

/// Rejects this type while the switch is on.
fn refuses_while(on: &Arc<AtomicBool>, type_url: &'static str, words: &'static str) -> Taste {
    let on = on.clone();
    Box::new(move |of, _| (of == type_url && on.load(Ordering::SeqCst)).then(|| words.to_owned()))
}

#[tokio::test]
async fn a_refusal_whose_cause_may_pass_is_tried_again_for_that_envoy_alone() {
    let bind = "cannot bind '127.0.0.1:10000': Address already in use";
    for (type_url, words) in [(LISTENER, bind), (SCOPE, "Too many open files")] {
        let (control, _state, agent) = shop(1).await;
        let on = Arc::new(AtomicBool::new(true));
        let taste = refuses_while(&on, type_url, words);
        let _envoy = FakeEnvoy::picky(&agent.xds, "e1", "all", taste);
        let status = reported(&control, 0, "is refused", failed).await;
        assert!(status.error.unwrap().envoy_message.ends_with(words));
        let other = FakeEnvoy::start(&agent.xds, "e2");
        let partly = |status: &PublishStatus| (status.nodes_acked, status.nodes_nacked) == (1, 1);
        reported(&control, 0, "is with the other", partly).await;
        let received = other.received();
        on.store(false, Ordering::SeqCst);
        reported(&control, 0, "is active, and nobody did anything", active(1, 2)).await;
        assert_eq!(other.received(), received, "who has it is not sent it again");
        agent.shutdown().await;
    }
}
