//! What callers see of an agent that stops, with or without a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use imp_agent::app::Running;
use imp_agent::config::Config;
use imp_agent::port::Address;
use imp_proto::config as pb;

use super::{Envoy, answers, call, shop};
use crate::fixtures::{KEY, host, publish};
use crate::rig::{self, PATIENCE, active, agent, config, reported};

/// Callers with a key that make one call after another until stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    callers: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Load {
    pub(super) fn start(port: u16) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = |_| {
            let (stop, done) = (stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                let client = reqwest::Client::new();
                let url = format!("http://127.0.0.1:{port}/x");
                while !stop.load(Ordering::Relaxed) {
                    let asked = client.get(&url).header("host", host(0)).header("x-api-key", KEY);
                    match asked.send().await {
                        Ok(answer) if answer.status() == 200 => {}
                        Ok(answer) => failed.push(answer.status().to_string()),
                        Err(error) => failed.push(error.to_string()),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                failed
            })
        };
        let callers = (0..4).map(caller).collect();
        Self { stop, done, callers }
    }

    pub(super) async fn more(&self, calls: u64) {
        let (before, deadline) = (self.done.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while self.done.load(Ordering::Relaxed) < before + calls {
            assert!(Instant::now() < deadline, "nobody gets an answer");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) async fn failed(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for caller in self.callers {
            failed.extend(caller.await.unwrap());
        }
        failed
    }
}

async fn restarted(former: Running, control: &str, state: &std::path::Path) -> Running {
    let (xds, admin_listen) = (former.xds.clone(), former.admin_addr.to_string());
    former.shutdown().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    again(control, state, xds, admin_listen).await
}

/// Starts an agent where one was.
pub(super) async fn again(
    control: &str,
    state: &std::path::Path,
    xds: Address,
    admin_listen: String,
) -> Running {
    let config = Config { xds_listen: Some(xds), admin_listen, ..config(control, state) };
    rig::start(config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_only_agent_fails_no_call() {
    let (control, port, _) = shop(1, vec![]).await;
    let state = tempfile::tempdir().unwrap();
    let mut running = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&running.xds, None).await;
    reported(&control, 0, "is active", active(1, 1)).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    let load = Load::start(port);
    for _ in 0..3 {
        load.more(100).await;
        running = restarted(running, &control.url(), state.path()).await;
    }
    load.more(100).await;
    assert_eq!(load.failed().await, [""; 0]);
    // Held, but not allowed: the restarted agent refuses a call without a key.
    let held = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        call(port, &host(0), &[]).await.unwrap().status
    });
    running = restarted(running, &control.url(), state.path()).await;
    assert_eq!(held.await.unwrap(), 401);
    running.shutdown().await;
    let since = Instant::now();
    let refused = call(port, &host(0), &[("x-api-key", KEY)]).await.unwrap();
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.text.contains("enforcement_unavailable"), "{}", refused.text);
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_takes_over_without_a_failed_call() {
    let (control, port, _) = shop(1, vec![]).await;
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = agent(&control.url(), states[0].path()).await;
    let second = agent(&control.url(), states[1].path()).await;
    let other: Vec<Address> = vec![second.xds.clone()];
    let envoy = Envoy::start_at(&first.xds, other, None, None).await;
    answers(&envoy, port, &host(0), &[("x-api-key", KEY)], 200).await;
    let load = Load::start(port);
    load.more(100).await;
    first.shutdown().await;
    load.more(300).await;
    let stats = envoy.stats("cluster.agent.(upstream_rq_timeout|membership_healthy)").await;
    assert!(stats.contains("upstream_rq_timeout: 0"), "nobody waits for the dead one: {stats}");
    assert!(stats.contains("membership_healthy: 1"), "it is left out: {stats}");
    assert_eq!(load.failed().await, [""; 0]);
    // The configuration now comes from the other of the two.
    let deadline = Instant::now() + PATIENCE;
    while second.fleet.nodes().is_empty() {
        assert!(Instant::now() < deadline, "Envoy does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    second.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_anybody_may_call_at_will_is_served_without_an_agent_and_counted_with_one() {
    let (control, port, upstream) = shop(1, vec![]).await;
    let mut open = publish(1, upstream);
    open.auth_mode = pb::publish::AuthMode::None.into();
    control.state.set(&open);
    let state = tempfile::tempdir().unwrap();
    let running = agent(&control.url(), state.path()).await;
    let envoy = Envoy::start(&running.xds, None).await;
    for number in 0..2 {
        reported(&control, number, "is active", active(1, 1)).await;
    }
    let said = [("x-api-key", "any"), ("x-imp-consumer", "spoofed")];
    for _ in 0..5 {
        answers(&envoy, port, &host(1), &said, 200).await;
    }
    let counted = envoy.stats("imp_open.*ok").await;
    assert!(counted.lines().any(|line| line.ends_with(": 5")), "asked about each: {counted}");
    running.shutdown().await;
    for _ in 0..20 {
        let answer = call(port, &host(1), &said).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(!answer.text.contains("spoofed") && !answer.text.contains("x-api-key"));
    }
    assert_eq!(call(port, &host(0), &[("x-api-key", KEY)]).await.unwrap().status, 503);
}
