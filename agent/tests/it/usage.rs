//! Tests of usage: reported once, over disconnects and restarts.

use std::collections::HashMap;

use imp_agent::app::Running;
use imp_proto::agent as pb;

use crate::control::{Control, State};
use crate::door::knock;
use crate::fixtures::{KEY, credential, entitlement, id, quota};
use crate::rig::{self, agent, config, control_with, eventually};

/// The control plane's sum: per epoch and counter the largest, then the sum.
pub(crate) fn total(state: &State) -> (u64, u64) {
    let mut largest: HashMap<(String, String, i64), (u64, u64)> = HashMap::new();
    state.with(|shared| {
        for batch in &shared.usage {
            for counter in &batch.counters {
                let key = (batch.epoch.clone(), counter.publish_id.clone(), counter.hour_ms);
                let seen = largest.entry(key).or_default();
                *seen = (seen.0.max(counter.allowed), seen.1.max(counter.limited));
            }
        }
    });
    largest.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

fn batches(state: &State) -> Vec<pb::UsageBatch> {
    state.with(|shared| shared.usage.clone())
}

async fn shop(limits: Vec<imp_proto::config::Limit>) -> (Control, tempfile::TempDir, Running) {
    let control = control_with(1).await;
    control.state.set(&entitlement(limits));
    control.state.set(&credential());
    let state = tempfile::tempdir().unwrap();
    let agent = agent(&control.url(), state.path()).await;
    rig::ready(&agent).await;
    (control, state, agent)
}

async fn call(agent: &Running, times: usize) {
    for _ in 0..times {
        knock(&agent.xds, &id(1, 0), Some(KEY)).await;
    }
}

#[tokio::test]
async fn calls_are_told_with_who_made_them_and_only_when_there_are_new_ones() {
    let (control, _state, agent) = shop(vec![quota(3)]).await;
    call(&agent, 5).await;
    eventually("three and two", || (total(&control.state) == (3, 2)).then_some(())).await;
    let last = batches(&control.state).pop().unwrap();
    let counter = last.counters.first().unwrap();
    assert_eq!(
        (counter.subscription_id.as_str(), counter.consumer_id.as_str()),
        (&*id(6, 1), "consumer")
    );
    assert_eq!(
        [&counter.tenant_id, &counter.customer_id, &counter.plan_id, &counter.product_id],
        ["tenant", "customer", "plan", "product"]
    );
    assert_eq!((counter.environment.as_str(), counter.plan_version), ("prod", 3));
    assert_eq!(counter.hour_ms % 3_600_000, 0);
    let count = batches(&control.state).len();
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(batches(&control.state).len(), count, "nothing new, nothing told");
    let sequences: Vec<_> = batches(&control.state).iter().map(|batch| batch.sequence).collect();
    assert!(sequences.is_sorted(), "{sequences:?}");
    agent.shutdown().await;
}

#[tokio::test]
async fn what_was_not_committed_is_told_again_on_the_next_stream() {
    let (control, _state, agent) = shop(vec![]).await;
    control.state.with(|shared| shared.commits = false);
    call(&agent, 2).await;
    eventually("told", || (total(&control.state) == (2, 0)).then_some(())).await;
    // The transaction was lost in the crash.
    let (address, state) = control.stop();
    state.with(|shared| (shared.commits, shared.usage) = (true, vec![]));
    let control = Control::start_at(address, state).await;
    eventually("told again", || (total(&control.state) == (2, 0)).then_some(())).await;
    agent.shutdown().await;
}

#[tokio::test]
async fn counters_and_quotas_survive_a_restart_and_nothing_counts_twice() {
    let (control, state, first) = shop(vec![quota(4)]).await;
    call(&first, 3).await;
    first.shutdown().await;
    let again = rig::start(config(&control.url(), state.path())).await.unwrap();
    call(&again, 3).await;
    eventually("four and two", || (total(&control.state) == (4, 2)).then_some(())).await;
    let epochs: std::collections::BTreeSet<_> =
        batches(&control.state).into_iter().map(|batch| batch.epoch).collect();
    assert_eq!(epochs.len(), 1, "one life of the counters");
    again.shutdown().await;

    // The disk is lost: a new epoch, which does not reduce the old one.
    for file in ["lkg.redb", "usage.bin"] {
        std::fs::remove_file(state.path().join(file)).unwrap();
    }
    let third = rig::start(config(&control.url(), state.path())).await.unwrap();
    rig::ready(&third).await;
    call(&third, 1).await;
    eventually("five", || (total(&control.state) == (5, 2)).then_some(())).await;
    third.shutdown().await;
}
