//! Tables that hosts share, when Envoys lag or disagree, or the agent restarts in the middle of a move.

use std::time::Duration;

use imp_proto::agent as pb_agent;
use imp_proto::config as pb;
use imp_translate::xds::{ROUTES, SCOPE};
use tokio::time::Instant;

use super::restarts::{Load, again};
use super::{Envoy, answers, shop};
use crate::control::Control;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, KEY, POISON_WORDS, at_revision, host, id, poisoned, publish};
use crate::rig::{PATIENCE, active, agent, eventually, reported};

/// Two publishes that are equal but for their hosts.
fn alike(upstream: u16) -> [pb::Publish; 2] {
    [0, 1].map(|number| pb::Publish {
        id: id(1, number),
        hostnames: vec![host(number)],
        ..publish(0, upstream)
    })
}

/// A gateway with both.
async fn pair() -> (Control, u16, u16) {
    let (control, port, upstream) = shop(0, vec![]).await;
    set(&control, alike(upstream));
    (control, port, upstream)
}

fn set(control: &Control, publishes: [pb::Publish; 2]) {
    publishes.iter().for_each(|publish| control.state.set(publish));
}

async fn are_active(control: &Control, revision: u64, nodes: u32) {
    for number in 0..2 {
        reported(control, number, "is active", active(revision, nodes)).await;
    }
}

/// The tables that an Envoy has.
fn tables(envoy: &FakeEnvoy) -> Vec<String> {
    let held = envoy.held().into_keys().filter(|(url, _)| url == ROUTES);
    held.map(|(_, name)| name).collect()
}

impl Envoy {
    async fn signal(&self, signal: &str) {
        let pid = self.child.id().unwrap().to_string();
        let sent = tokio::process::Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.unwrap().success());
    }

    /// Scopes with the tables that they name, if they name one.
    async fn scopes(&self) -> Vec<(String, String)> {
        let dump = self.admin.get("http://envoy/config_dump").send().await.unwrap();
        let dump: serde_json::Value = serde_json::from_str(&dump.text().await.unwrap()).unwrap();
        let (mut scopes, mut rest) = (Vec::new(), vec![&dump]);
        while let Some(value) = rest.pop() {
            if let Some(table) = value["route_configuration_name"].as_str()
                && let Some(name) = value["name"].as_str()
            {
                scopes.push((name.to_owned(), table.to_owned()));
            }
            rest.extend(value.as_array().into_iter().flatten());
            rest.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        }
        scopes
    }

    /// Whether it has the holder of a table that no host names.
    async fn is_between(&self) -> bool {
        let scopes = self.scopes().await;
        let is_named =
            |of: &str| scopes.iter().any(|(name, table)| !name.starts_with('h') && table == of);
        scopes.iter().any(|(name, table)| name.starts_with('h') && !is_named(table))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_while_an_envoy_lags_is_missed_by_none_of_its_callers() {
    let (control, port, upstream) = pair().await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let slow = Envoy::start(&agent.xds, None).await;
    let fast = FakeEnvoy::start(&agent.xds, "e2");
    are_active(&control, 1, 2).await;
    answers(&slow, port, &host(0), &[("x-api-key", KEY)], 200).await;
    let [former] = &tables(&fast)[..] else { panic!("{:?}", tables(&fast)) };
    slow.signal("-STOP").await;
    set(&control, alike(upstream).map(|publish| at_revision(publish, 2)));
    // The other one has moved, and the former table is gone with its holder.
    let holder = format!("h{}", former.trim_start_matches('r'));
    eventually("it is gone", || {
        let held = fast.held();
        let is_there =
            |url: &str, name: &str| held.contains_key(&(url.to_owned(), name.to_owned()));
        let moved = tables(&fast).len() == 1 && !is_there(ROUTES, former);
        (moved && !is_there(SCOPE, &holder)).then_some(())
    })
    .await;
    let load = Load::start(port);
    slow.signal("-CONT").await;
    are_active(&control, 2, 2).await;
    load.more(50).await;
    assert_eq!(load.failed().await, [""; 0]);
    let stats = slow.stats("update_rejected").await;
    assert!(stats.lines().all(|line| line.ends_with(": 0")), "{stats}");
    let scopes = slow.scopes().await;
    assert!(scopes.len() == 3 && scopes.iter().all(|(_, table)| table != former), "{scopes:?}");
    agent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_restarts_between_holder_and_scope_finishes_the_move() {
    let (control, port, upstream) = pair().await;
    let state = tempfile::tempdir().unwrap();
    let mut running = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&running.xds, None).await;
    are_active(&control, 1, 1).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    let load = Load::start(port);
    let mut caught = 0;
    for revision in 2..7 {
        let [first, second] = alike(upstream).map(|publish| at_revision(publish, revision));
        // Alone, it has the content in its scope.
        control.state.set(&first);
        reported(&control, 0, "is active", active(revision, 1)).await;
        envoy.signal("-STOP").await;
        control.state.set(&second);
        let waits = |s: &pb_agent::PublishStatus| (s.revision, s.nodes_behind) == (revision, 1);
        reported(&control, 1, "waits for Envoy", waits).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (xds, admin) = (running.xds.clone(), running.admin_addr);
        running.shutdown().await;
        // It reads what was sent, and its answer reaches nobody.
        envoy.signal("-CONT").await;
        caught += u32::from(envoy.is_between().await);
        running = again(&control.url(), state.path(), xds, admin.to_string()).await;
        are_active(&control, revision, 1).await;
        load.more(10).await;
    }
    assert!(caught > 0, "no restart was between the two");
    assert!(!envoy.is_between().await);
    assert_eq!(load.failed().await, [""; 0]);
    running.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_envoys_that_disagree_about_a_shared_table_each_serves_what_it_takes() {
    let (control, port, upstream) = pair().await;
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    let strict = Envoy::start(&agent.xds, None).await;
    let lenient = FakeEnvoy::start(&agent.xds, "e2");
    are_active(&control, 1, 2).await;
    set(&control, alike(upstream).map(|publish| poisoned(publish, 2)));
    let partly = |s: &pb_agent::PublishStatus| {
        (s.revision, s.acked_revision, s.nodes_acked, s.nodes_nacked) == (2, 2, 1, 1)
    };
    for number in 0..2 {
        let status = reported(&control, number, "is with the other", partly).await;
        assert!(status.error.unwrap().envoy_message.contains(POISON_WORDS));
        answers(&strict, port, &host(number), &[("x-api-key", KEY)], 200).await;
    }
    assert!(lenient.runs(fixtures::POISON) && lenient.scopes().len() == 2);
    let deadline = Instant::now() + PATIENCE;
    set(&control, alike(upstream).map(|publish| at_revision(publish, 3)));
    are_active(&control, 3, 2).await;
    while lenient.runs(fixtures::POISON) || tables(&lenient).len() != 1 {
        assert!(Instant::now() < deadline, "{:?}", tables(&lenient));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for number in 0..2 {
        answers(&strict, port, &host(number), &[("x-api-key", KEY)], 200).await;
    }
    agent.shutdown().await;
}
