//! Envoys with the module beside others that cannot have it, at one agent.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use imp_agent::app::Running;
use imp_agent::config::{Config, Door};
use imp_agent::port::Address;
use imp_grammar::features::WILDCARD_HOSTS;
use imp_proto::agent::PublishStatus;
use imp_proto::config as pb;
use imp_translate::xds::{EXTENSION, LISTENER};

use crate::control::Control;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures;
use crate::hosts::FakeModule;
use crate::module::with_module;
use crate::rig::{self, active, control_with, eventually, ready, reported};

const WILDCARD: &str = "*.wild.example.com";

async fn start(control: &Control, state: &Path) -> Running {
    let token = Some(crate::control::TOKEN.into());
    let config = with_module(&control.url(), state);
    let config = Config { registration_token: token, door: Door::Auto, ..config };
    let agent = rig::start(config).await.unwrap();
    ready(&agent).await;
    agent
}

/// One that the module was not tested with.
fn old(agent: &Address) -> FakeEnvoy {
    FakeEnvoy::of_version("1.39.3", agent, "old", "all", Box::new(|_, _| None))
}

fn wildcard(number: usize) -> pb::Publish {
    let ip = u16::try_from(9_000 + number).unwrap();
    pb::Publish { hostnames: vec![WILDCARD.into()], ..fixtures::publish(number, ip) }
}

/// The versions of the only listener and the filter.
fn versions(envoy: &FakeEnvoy) -> Option<(String, String)> {
    let held = envoy.held();
    let of =
        |url: &str| held.iter().find(|((it, _), _)| it == url).map(|(_, version)| version.clone());
    of(LISTENER).zip(of(EXTENSION))
}

/// Taken by one Envoy, and not by another for want of the module.
fn without_one(revision: u64) -> impl Fn(&PublishStatus) -> bool {
    move |status| {
        status.acked_revision == revision
            && (status.nodes_acked, status.nodes_nacked, status.nodes_behind) == (1, 1, 0)
            && status.error.as_ref().is_some_and(|error| error.code == "no_module")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_envoy_without_the_module_has_listeners_of_its_own_which_count_as_the_others() {
    let control = control_with(2).await;
    let directory = tempfile::tempdir().unwrap();
    let agent = start(&control, directory.path()).await;
    let (new, other) = (FakeEnvoy::start(&agent.xds, "new"), old(&agent.xds));
    for number in 0..2 {
        reported(&control, number, "is active", active(1, 2)).await;
    }
    let before = [versions(&new).unwrap(), versions(&other).unwrap()];
    assert_ne!(before[0].0, before[1].0, "the listener");
    assert_ne!(before[0].1, before[1].1, "the filter");
    assert_eq!(new.scopes(), other.scopes());

    // A setting of the gateway changes both listeners, and what is said of either counts.
    let settings = pb::GatewaySettings { refuse_http10: true, ..Default::default() };
    let gateway = pb::Gateway { settings: Some(settings), ..fixtures::gateway(10_000) };
    control.state.set(&gateway);
    for (envoy, before) in [(&new, &before[0]), (&other, &before[1])] {
        let changed = || versions(envoy).filter(|now| now.0 != before.0 && now.1 == before.1);
        eventually("another listener", changed).await;
    }
    control.state.set(&fixtures::publish(2, 9_000));
    reported(&control, 2, "is active", active(1, 2)).await;
    reported(&control, 0, "is active", active(1, 2)).await;

    // After a restart, too.
    let state = directory.path();
    drop((new, other));
    agent.shutdown().await;
    let agent = start(&control, state).await;
    let _envoys = [FakeEnvoy::start(&agent.xds, "new"), old(&agent.xds)];
    control.state.set(&fixtures::publish(3, 9_000));
    reported(&control, 3, "is active", active(1, 2)).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_listener_that_an_envoy_without_the_module_cannot_open_is_told_in_its_words() {
    let control = control_with(1).await;
    let directory = tempfile::tempdir().unwrap();
    let agent = start(&control, directory.path()).await;
    let taken = Arc::new(AtomicBool::new(true));
    let is_taken = taken.clone();
    let words = move |url: &str, _: &imp_xds::Resource| {
        let refuses = url == LISTENER && is_taken.load(Ordering::SeqCst);
        refuses.then(|| "cannot bind: Address already in use".to_owned())
    };
    let _old = FakeEnvoy::of_version("1.39.3", &agent.xds, "old", "all", Box::new(words));
    let refused = |status: &PublishStatus| {
        let error = status.error.as_ref();
        error.is_some_and(|it| it.code == "envoy_nack" && it.envoy_message.contains("in use"))
    };
    reported(&control, 0, "is refused", refused).await;
    taken.store(false, Ordering::SeqCst);
    reported(&control, 0, "is active", active(1, 1)).await;
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wildcard_is_served_by_envoys_with_the_module_and_the_others_are_named() {
    let control = control_with(1).await;
    let directory = tempfile::tempdir().unwrap();
    let agent = start(&control, directory.path()).await;
    let new = FakeEnvoy::start(&agent.xds, "new");
    let module = FakeModule::start(directory.path());
    control.state.set(&wildcard(1));
    reported(&control, 1, "is active", active(1, 1)).await;
    let knows = || {
        let heartbeat = control.state.with(|shared| shared.heartbeat.take())?;
        let words = heartbeat.capabilities?.features;
        Some(words.iter().any(|word| word == WILDCARD_HOSTS))
    };
    let becomes = async |expected: bool| {
        eventually("what agents can", || knows().filter(|known| *known == expected)).await
    };
    becomes(true).await;

    // It stays where the module is; new ones are refused meanwhile.
    let other = old(&agent.xds);
    reported(&control, 1, "is not served by one", without_one(1)).await;
    let status = control.state.status(&fixtures::id(1, 1)).unwrap();
    let error = status.error.unwrap();
    assert_eq!(error.resource, WILDCARD);
    assert!(error.hint.contains("old"), "{}", error.hint);
    becomes(false).await;
    let scopes = || (new.scopes().len(), other.scopes().len());
    eventually("each has its scopes", || (scopes() == (2, 1)).then_some(())).await;
    reported(&control, 0, "is active", active(1, 2)).await;
    assert!(module.knows(WILDCARD));

    // The next revision, and a host that modules are told of although one Envoy has no scope.
    control.state.set(&pb::Publish { revision: 2, ..wildcard(1) });
    control.state.set(&pb::Publish {
        hostnames: vec!["*.other.example.com".into()],
        ..fixtures::publish(2, 9_000)
    });
    reported(&control, 1, "is not served by one", without_one(2)).await;
    reported(&control, 2, "is not served by one", without_one(1)).await;
    eventually("the host", || module.knows("*.other.example.com").then_some(())).await;

    // The other one goes: nothing is missing any more.
    drop(other);
    reported(&control, 1, "is active", active(2, 1)).await;
    becomes(true).await;

    // Alone, it serves none.
    drop(new);
    let _other = old(&agent.xds);
    let failed = |status: &PublishStatus| {
        (status.nodes_acked, status.nodes_nacked) == (0, 1)
            && status.error.as_ref().is_some_and(|error| error.code == "no_module")
    };
    reported(&control, 1, "is served by nobody", failed).await;
    agent.shutdown().await;
}

/// It is sent the rest at once, and is not asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_envoy_that_refuses_a_listener_for_the_module_gets_the_one_without() {
    let control = control_with(1).await;
    let directory = tempfile::tempdir().unwrap();
    let agent = start(&control, directory.path()).await;
    let words = |url: &str, resource: &imp_xds::Resource| {
        let has_module = |at: &[u8]| at == b"DynamicModuleEarlyHeaderMutation";
        let refuses = url == LISTENER && resource.value().windows(32).any(has_module);
        refuses.then(|| "Failed to load dynamic module: no such file".to_owned())
    };
    let envoy = FakeEnvoy::picky(&agent.xds, "new", "all", Box::new(words));
    reported(&control, 0, "is active", active(1, 1)).await;
    assert_eq!(envoy.refused().len(), 1);
    let choice = agent.fleet.doors().of("new").unwrap();
    assert!(!choice.is_module && choice.why.to_string().contains("no such file"), "{choice:?}");
    agent.shutdown().await;
}
