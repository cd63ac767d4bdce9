//! Many publishes at once, on real Envoys under load: nobody who calls sees anything of it.

use std::time::Duration;

use anyhow::Result;
use imp_bench::scale::{
    Calls, Contents, Plan, Setup, Traffic, burst, edit, everywhere, reconnected,
};

use crate::alone::side_by_side;

/// What an agent may send to an Envoy that has 300 scopes: the few resources that Envoy asks for by
/// name, which are sent on each stream. The scopes alone are at least three times as large.
const SENT_AGAIN: f64 = 20_000.0;

fn plan(publishes: usize, envoys: u32) -> Plan {
    Plan {
        contents: Contents::Shared(4),
        publishes,
        envoys,
        workers: 2,
        layout: None,
        timed: 0,
        live: 0,
        edited: 30,
        keys: 20,
        lone: 10,
        calls: 100,
    }
}

fn assert_right(calls: &Calls, at_least: usize) {
    assert_eq!(calls.wrong, 0, "{:#?}", calls.faults);
    assert!(calls.times.0.len() >= at_least, "too few calls: {}", calls.times.0.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_and_a_restart_of_the_agent_are_not_seen_by_callers() -> Result<()> {
    let _turn = side_by_side().await;
    let mut setup = Setup::start(plan(300, 1)).await?;
    setup.load().await?;
    let burst = burst(&mut setup).await?;
    assert_right(&burst.calls, 20);
    assert!(!burst.lone.0.is_empty() && !burst.revoked.0.is_empty(), "{burst:?}");
    // The agent writes in the background; a second is more than enough.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let mut calls = setup.subject.public_calls();
    calls.extend(setup.subject.keyed_calls());
    let traffic = Traffic::start(&setup, &calls, 100).await?;
    let sent = reconnected(&mut setup).await?;
    assert_right(&traffic.stop().await?, 100);
    assert!(sent < SENT_AGAIN, "Envoy had all of it, and got {sent} bytes");
    everywhere(&setup, 300, |index| setup.bulk.expected(index)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn all_publishes_of_an_edited_service_change_under_load() -> Result<()> {
    let _turn = side_by_side().await;
    let mut setup = Setup::start(plan(1, 1)).await?;
    setup.open_gate().await?;
    let edit = edit(&setup).await?;
    assert_right(&edit.calls, 20);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_envoys_serve_a_burst_and_an_edit() -> Result<()> {
    let _turn = side_by_side().await;
    let mut setup = Setup::start(plan(50, 2)).await?;
    setup.load().await?;
    assert_right(&burst(&mut setup).await?.calls, 20);
    assert_right(&edit(&setup).await?.calls, 20);
    Ok(())
}
