//! Tests of an agent that is killed at any moment: the program itself, as a process.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use imp_agent::port::Address;
use imp_proto::config as pb;

use super::NOWHERE;
use crate::control::{TOKEN, resource};
use crate::door::try_knock;
use crate::fake_envoy::FakeEnvoy;
use crate::fixtures::{self, KEY, credential, entitlement, id, quota};
use crate::rig::{PATIENCE, active, control_with, eventually, reported, until_status};

/// An agent as a process, on an address that it keeps over restarts.
struct Process {
    xds: Address,
    child: Option<Child>,
}

impl Process {
    fn new(state: &Path) -> Self {
        Self { xds: Address::Unix(state.join("xds.sock")), child: None }
    }

    fn start(&mut self, control: &str, state: &Path) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imp-agent"));
        command.env_clear().env("RUST_LOG", "error").env("IMP_REGISTRATION_TOKEN", TOKEN);
        command.args(["--admin-listen", "127.0.0.1:0"]);
        command.args(["--control", control, "--state-dir"]).arg(state);
        self.child = Some(command.stdout(Stdio::null()).spawn().unwrap());
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// `kill -9`.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What callers have seen.
#[derive(Default)]
struct Seen {
    /// Calls that were sent.
    asked: AtomicU64,
    allowed: AtomicU64,
    limited: AtomicU64,
    over: AtomicBool,
}

async fn calls(seen: Arc<Seen>, xds: Address) {
    while !seen.over.load(Ordering::Acquire) {
        let Some(mut caller) = crate::door::caller(&xds).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        // Until the connection breaks.
        loop {
            if seen.over.load(Ordering::Acquire) {
                return;
            }
            seen.asked.fetch_add(1, Ordering::AcqRel);
            match try_knock(&mut caller, &id(1, 0), Some(KEY)).await {
                Ok(200) => seen.allowed.fetch_add(1, Ordering::AcqRel),
                Ok(429) => seen.limited.fetch_add(1, Ordering::AcqRel),
                Ok(_) => {
                    // Not loaded yet: nothing was counted.
                    seen.asked.fetch_sub(1, Ordering::AcqRel);
                    break;
                }
                Err(refused) if refused => {
                    seen.asked.fetch_sub(1, Ordering::AcqRel);
                    break;
                }
                Err(_) => break,
            };
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_lost_or_billed_twice_over_kill_9_at_any_moment() {
    const KILLS: usize = 8;
    const QUOTA: u64 = 4_000;
    let control = control_with(1).await;
    control.state.set(&entitlement(vec![quota(QUOTA)]));
    control.state.set(&credential());
    let state = tempfile::tempdir().unwrap();
    let mut agent = Process::new(state.path());
    agent.start(&control.url(), state.path());
    until_status(&agent.xds, &id(1, 0), KEY, 200).await;
    let (first_allowed, _) = eventually("told", || {
        let total = crate::usage::total(&control.state);
        (total.0 > 0).then_some(total)
    })
    .await;

    let seen = Arc::new(Seen::default());
    let callers: Vec<_> =
        (0..4).map(|_| tokio::spawn(calls(seen.clone(), agent.xds.clone()))).collect();
    for _ in 0..KILLS {
        let before = seen.allowed.load(Ordering::Acquire) + seen.limited.load(Ordering::Acquire);
        let served = || {
            let now = seen.allowed.load(Ordering::Acquire) + seen.limited.load(Ordering::Acquire);
            (now > before + 20).then_some(())
        };
        eventually("calls", served).await;
        tokio::time::sleep(Duration::from_millis(imp_process::random::random::<u64>() % 400)).await;
        agent.kill();
        agent.start(&control.url(), state.path());
    }
    let limit = || (seen.limited.load(Ordering::Acquire) > 0).then_some(());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    while limit().is_none() {
        assert!(tokio::time::Instant::now() < deadline, "the quota was never used up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    seen.over.store(true, Ordering::Release);
    for caller in callers {
        caller.await.unwrap();
    }
    let allowed = seen.allowed.load(Ordering::Acquire);
    let limited = seen.limited.load(Ordering::Acquire);
    let cut = seen.asked.load(Ordering::Acquire) - allowed - limited;
    // Counted or not, and the answer was lost with the process: a few per caller and kill.
    assert!(cut <= 2 * 4 * (KILLS as u64 + 1), "{cut}");
    let billed = eventually("all told", || {
        let (billed, refused) = crate::usage::total(&control.state);
        let done = billed - first_allowed >= allowed && refused >= limited;
        done.then_some((billed - first_allowed, refused))
    })
    .await;
    assert!(billed.0 <= allowed + cut, "{billed:?} billed, {allowed} served, {cut} cut");
    assert!(billed.1 <= limited + cut, "{billed:?} billed, {limited} refused, {cut} cut");
    assert!(billed.0 + first_allowed <= QUOTA, "the quota gave {billed:?}");
    assert!(allowed + cut + first_allowed >= QUOTA, "the quota took {allowed} and {cut} cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_was_acknowledged_is_true_after_any_crash() {
    let control = control_with(1).await;
    control.state.set(&entitlement(vec![]));
    let state = tempfile::tempdir().unwrap();
    let mut agent = Process::new(state.path());
    for round in 0..5 {
        let key = format!("imp_secret_{round}");
        let mut credential = credential();
        credential.id = id(7, round);
        credential.key_sha256 = fixtures::hash(&key).into();
        control.state.set(&credential);
        agent.start(&control.url(), state.path());
        until_status(&agent.xds, &id(1, 0), &key, 200).await;
        // The key must be on disk, or it would be unknown after the restart.
        tokio::time::sleep(Duration::from_millis(300)).await;
        credential.state = pb::credential::State::Revoked.into();
        let (_, revoked) = resource(&credential);
        control.state.set(&credential);
        let told = (revoked.name().to_string(), revoked.version().to_string());
        eventually("acknowledged", || {
            control.state.with(|shared| shared.acked.contains(&told).then_some(()))
        })
        .await;
        agent.kill();
        agent.start(NOWHERE, state.path());
        until_status(&agent.xds, &id(1, 0), &key, 401).await;
        agent.kill();
    }
}

/// Asks as fast as possible, so that the agent is killed at the moment of the first refusal: long
/// before a transaction is on disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_answered_401_is_good_no_more_after_a_crash_in_that_moment() {
    let control = control_with(1).await;
    let state = tempfile::tempdir().unwrap();
    let mut agent = Process::new(state.path());
    for round in 0..8 {
        let key = format!("imp_secret_{round}");
        let mut credential = credential();
        credential.id = id(7, round);
        credential.key_sha256 = fixtures::hash(&key).into();
        control.state.set(&entitlement(vec![]));
        control.state.set(&credential);
        agent.start(&control.url(), state.path());
        until_status(&agent.xds, &id(1, 0), &key, 200).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let mut caller = crate::door::caller(&agent.xds).await.unwrap();
        let refused = match round % 3 {
            0 => {
                credential.state = pb::credential::State::Revoked.into();
                control.state.set(&credential);
                401
            }
            1 => {
                control.state.remove::<pb::Credential>(&credential.id);
                401
            }
            _ => {
                let state = pb::entitlement::State::Ended.into();
                control.state.set(&pb::Entitlement { state, ..entitlement(vec![]) });
                403
            }
        };
        while try_knock(&mut caller, &id(1, 0), Some(&key)).await != Ok(refused) {}
        agent.kill();
        agent.start(NOWHERE, state.path());
        assert_eq!(first_answer(&agent.xds, &key).await, refused, "round {round}");
        agent.kill();
    }
}

/// The first answer of an agent that has loaded its disk.
async fn first_answer(xds: &Address, key: &str) -> i32 {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(mut caller) = crate::door::caller(xds).await
            && let Ok(status) = try_knock(&mut caller, &id(1, 0), Some(key)).await
        {
            return status;
        }
        assert!(tokio::time::Instant::now() < deadline, "no answer");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// 50 calls of 60, a crash at the moment of the last answer: 10 are left, and 60 are reported.
#[tokio::test(flavor = "multi_thread")]
async fn every_answered_call_is_counted_after_a_crash_in_that_moment() {
    let hourly = pb::Limit {
        name: "hour".into(),
        window: pb::limit::Window::Rolling.into(),
        window_seconds: 3_600,
        ..quota(60)
    };
    for limits in [vec![quota(60)], vec![hourly]] {
        let control = control_with(1).await;
        control.state.set(&entitlement(limits));
        control.state.set(&credential());
        let state = tempfile::tempdir().unwrap();
        let mut agent = Process::new(state.path());
        agent.start(&control.url(), state.path());
        until_status(&agent.xds, &id(1, 0), KEY, 200).await;
        let mut caller = crate::door::caller(&agent.xds).await.unwrap();
        for _ in 1..50 {
            assert_eq!(try_knock(&mut caller, &id(1, 0), Some(KEY)).await, Ok(200));
        }
        agent.kill();
        agent.start(&control.url(), state.path());
        assert_eq!(first_answer(&agent.xds, KEY).await, 200);
        let mut caller = crate::door::caller(&agent.xds).await.unwrap();
        let mut answers = Vec::new();
        for _ in 0..12 {
            answers.push(try_knock(&mut caller, &id(1, 0), Some(KEY)).await.unwrap());
        }
        assert_eq!(answers, [[200; 9].as_slice(), &[429; 3]].concat());
        agent.kill();
        agent.start(&control.url(), state.path());
        eventually("all told", || (crate::usage::total(&control.state) == (60, 3)).then_some(()))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_publishing_it_comes_back_whole_each_time() {
    let control = control_with(5).await;
    let state = tempfile::tempdir().unwrap();
    let mut agent = Process::new(state.path());
    agent.start(&control.url(), state.path());
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    reported(&control, 4, "is active", active(1, 1)).await;
    for round in 1_u64..=6 {
        for number in 0..5 {
            let revision = round + 1;
            control.state.set(&fixtures::at_revision(fixtures::publish(number, 9_000), revision));
        }
        let wait = imp_process::random::random::<u64>() % 60;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        agent.kill();
        agent.start(&control.url(), state.path());
        for number in 0..5 {
            reported(&control, number, "is active", active(round + 1, 1)).await;
        }
    }
    assert_eq!(envoy.scopes().len(), 5);
    assert_eq!(super::named(state.path(), "lkg.redb.damaged-").len(), 0, "a kill damages nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_goes_on_where_it_was() {
    let control = control_with(2).await;
    let state = tempfile::tempdir().unwrap();
    let mut agent = Process::new(state.path());
    agent.start(&control.url(), state.path());
    let envoy = FakeEnvoy::start(&agent.xds, "e1");
    reported(&control, 1, "is active", active(1, 1)).await;
    agent.signal("-STOP");
    control.state.set(&fixtures::at_revision(fixtures::publish(1, 9_000), 2));
    tokio::time::sleep(Duration::from_secs(2)).await;
    agent.signal("-CONT");
    reported(&control, 1, "is active again", active(2, 1)).await;
    assert_eq!(envoy.scopes().len(), 2);
}
