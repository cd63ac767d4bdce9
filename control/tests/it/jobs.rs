//! Jobs: each is done by one worker at a time, retried until it succeeds, and at its time.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use imp_control::jobs::{JobError, Kind as JobKind, Outcome, Running, Trigger, Worker};
use imp_control::operation::{Operation, Transaction};
use imp_control::state::Clock;
use imp_core::subscription::period_end;
use imp_store::audit::{self, Actor};
use imp_store::job::{self, Job, NewJob};
use imp_store::testing::{Database, Kind};
use imp_store::{Store, StoreError};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control_plane::{ControlPlane, Shop};

const LEASE: Duration = Duration::from_millis(900);
const SOON: Duration = Duration::from_secs(20);

/// Each run leaves an audit row for the object that the payload names.
static SAMPLES: &[JobKind] = &[
    JobKind { name: "note", trigger: Trigger::Cause, run: |it| Box::pin(note(it)) },
    JobKind { name: "slow", trigger: Trigger::Cause, run: |it| Box::pin(slow(it)) },
    JobKind { name: "long", trigger: Trigger::Cause, run: |it| Box::pin(long(it)) },
    JobKind { name: "third", trigger: Trigger::Cause, run: |it| Box::pin(third(it)) },
    JobKind { name: "hangs", trigger: Trigger::Cause, run: |it| Box::pin(hangs(it)) },
    JobKind { name: "panics", trigger: Trigger::Cause, run: |it| Box::pin(panics(it)) },
];

static HOURLY: &[JobKind] = &[JobKind {
    name: "hourly",
    trigger: Trigger::Every(Duration::from_secs(3600)),
    run: |it| Box::pin(hourly(it)),
}];

/// Unlike [`Running::begin`], does not check the lease, so that a second run would be visible.
async fn note(it: Running) -> Result<Outcome, JobError> {
    let tx = Transaction::begin(&it.operation, it.operation.scope).await?;
    let id = it.job.payload["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
    tx.finish_with("jobs.note", id, it.job.key.clone()).await?;
    Ok(Outcome::Done)
}

async fn slow(it: Running) -> Result<Outcome, JobError> {
    note(it.clone()).await?;
    sleep(LEASE * 3).await;
    Ok(Outcome::Done)
}

/// One transaction that is longer than a lease.
async fn long(it: Running) -> Result<Outcome, JobError> {
    let tx = it.begin().await?;
    let object = it.job.payload["id"].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
    sleep(LEASE * 2).await;
    tx.finish_as("jobs.long", object).await?;
    Ok(Outcome::Done)
}

/// Never ends, with a valid lease.
async fn hangs(_: Running) -> Result<Outcome, JobError> {
    std::future::pending().await
}

async fn third(it: Running) -> Result<Outcome, JobError> {
    if it.job.attempts < 3 {
        let why = format!("attempt {} fails", it.job.attempts);
        return Err(StoreError::Unavailable(why).into());
    }
    note(it).await
}

async fn panics(_: Running) -> Result<Outcome, JobError> {
    panic!("as it was asked to")
}

async fn hourly(_: Running) -> Result<Outcome, JobError> {
    Ok(Outcome::Done)
}

/// Runs the product's jobs at this time.
pub fn worker_at(store: &Store, now: DateTime<Utc>) -> Worker {
    Worker::new(Operation::of_bootstrap(store.clone(), Clock::from_fn(move || now)))
}

fn worker(store: &Store, now: DateTime<Utc>) -> Worker {
    worker_at(store, now).with(SAMPLES, LEASE)
}

async fn ask(store: &Store, kind: &'static str, key: &str, at: DateTime<Utc>) -> Uuid {
    let id = Uuid::new_v4();
    let payload = json!({ "id": id });
    let new = NewJob { kind, key: key.to_owned(), payload, due_at: at, created_at: at };
    let mut tx = store.begin().await.unwrap();
    job::schedule(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    id
}

async fn jobs(store: &Store, kind: &str) -> Vec<Job> {
    job::list(store, kind).await.unwrap()
}

/// The number of the job's runs.
async fn runs(store: &Store, id: Uuid) -> usize {
    audit::of_object(store, id).await.unwrap().len()
}

async fn until(what: &str, mut met: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !met().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(SOON, waits).await.is_ok(), "not within {SOON:?}: {what}");
}

/// Waits until the control plane has done a job that is due from the start.
pub async fn rests(store: &Store, kind: &str) {
    until(kind, async || {
        let jobs = jobs(store, kind).await;
        jobs.iter().all(|it| it.holder.is_none() && it.attempts == 0 && it.due_at > it.created_at)
            && !jobs.is_empty()
    })
    .await;
}

/// Runs the changes of plan that are due at this time; returns the number of jobs.
pub async fn change_plans(store: &Store, at: DateTime<Utc>) -> usize {
    worker_at(store, at).run_due(&["change_plan"]).await.unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_do_each_job_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let database = Database::fresh(kind).await.unwrap();
    let stores = [database.open().await.unwrap(), database.open().await.unwrap()];
    let (now, stop) = (imp_process::clock::now(), CancellationToken::new());
    let mut ids = Vec::new();
    for number in 0..30 {
        ids.push(ask(&stores[0], "note", &number.to_string(), now).await);
    }
    // It takes longer than its lease.
    let slow = ask(&stores[0], "slow", "", now).await;
    let workers = stores.iter().map(|store| tokio::spawn(worker(store, now).run(stop.clone())));
    let workers: Vec<_> = workers.collect();
    let left = async || jobs(&stores[1], "note").await.len() + jobs(&stores[1], "slow").await.len();
    until("all is done", async || left().await == 0).await;
    stop.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
    ids.push(slow);
    for id in ids {
        assert_eq!(runs(&stores[0], id).await, 1);
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_of_a_worker_that_died_is_done_by_another(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let (store, now) = (database.open().await.unwrap(), imp_process::clock::now());
    let id = ask(&store, "note", "", now).await;
    let dead = job::take(&store, &["note"], now, LEASE).await.unwrap();
    assert!(dead.is_some());
    assert_eq!(worker(&store, now).run_due(&["note"]).await.unwrap(), 0);
    sleep(LEASE).await;
    until("its lease has ended", async || {
        worker(&store, now).run_due(&["note"]).await.unwrap() == 1
    })
    .await;
    assert_eq!((runs(&store, id).await, jobs(&store, "note").await), (1, vec![]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_outlasts_the_lease_is_not_broken_off(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let (store, now) = (database.open().await.unwrap(), imp_process::clock::now());
    let id = ask(&store, "long", "", now).await;
    assert_eq!(worker(&store, now).run_due(&["long"]).await.unwrap(), 1);
    assert_eq!((runs(&store, id).await, jobs(&store, "long").await), (1, vec![]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stops_gives_its_job_back(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let (store, now) = (database.open().await.unwrap(), imp_process::clock::now());
    let (id, stop) = (ask(&store, "slow", "", now).await, CancellationToken::new());
    let running = tokio::spawn(worker(&store, now).run(stop.clone()));
    until("it has begun", async || runs(&store, id).await == 1).await;
    stop.cancel();
    running.await.unwrap();
    let left = jobs(&store, "slow").await;
    assert_eq!(left.iter().map(|it| it.holder).collect::<Vec<_>>(), [None]);
    assert!(job::take(&store, &["slow"], now, LEASE).await.unwrap().is_some(), "at once");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_is_tried_again_later_and_later_until_it_succeeds(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let (store, mut now) = (database.open().await.unwrap(), imp_process::clock::now());
    let id = ask(&store, "third", "", now).await;
    ask(&store, "panics", "", now).await;
    let both = ["third", "panics"];
    let mut waits = Vec::new();
    for attempt in 1..=2 {
        assert_eq!(worker(&store, now).run_due(&both).await.unwrap(), 2);
        assert_eq!(worker(&store, now).run_due(&both).await.unwrap(), 0, "not at once");
        let failed = jobs(&store, "third").await.remove(0);
        assert_eq!(failed.attempts, attempt);
        assert_eq!(failed.last_error, format!("attempt {attempt} fails"));
        let panicked = jobs(&store, "panics").await.remove(0);
        assert!(panicked.last_error.contains("panicked"), "{}", panicked.last_error);
        waits.push((failed.due_at - now).num_milliseconds());
        now = failed.due_at.max(panicked.due_at);
    }
    assert!((990..=2_000).contains(&waits[0]) && (1_990..=4_000).contains(&waits[1]), "{waits:?}");
    worker(&store, now).run_due(&both).await.unwrap();
    assert_eq!((runs(&store, id).await, jobs(&store, "third").await), (1, vec![]));
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_never_ends_is_broken_off_and_tried_again_later(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let (store, now) = (database.open().await.unwrap(), imp_process::clock::now());
    ask(&store, "hangs", "", now).await;
    let hasty = worker(&store, now).with(SAMPLES, Duration::from_millis(300));
    // On a busy machine its lease may end first. Then it runs again.
    let broken_off = async {
        loop {
            hasty.run_due(&["hangs"]).await.unwrap();
            let job = jobs(&store, "hangs").await.remove(0);
            if !job.last_error.is_empty() {
                return job;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let failed = timeout(Duration::from_secs(120), broken_off).await.unwrap();
    assert!(failed.due_at > now && failed.last_error.contains("longer"), "{failed:?}");
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_clock_triggers_is_one_job_of_all_replicas_and_comes_again(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let stores = [database.open().await.unwrap(), database.open().await.unwrap()];
    let (now, stop) = (imp_process::clock::now(), CancellationToken::new());
    let hourly = |store: &Store, now| worker(store, now).with(HOURLY, LEASE);
    let workers = stores.iter().map(|store| tokio::spawn(hourly(store, now).run(stop.clone())));
    let workers: Vec<_> = workers.collect();
    let due = async || jobs(&stores[0], "hourly").await.first().map(|it| it.due_at);
    let next = as_kept(now) + TimeDelta::hours(1);
    until("it was done", async || due().await == Some(next)).await;
    stop.cancel();
    for worker in workers {
        worker.await.unwrap();
    }
    assert_eq!(jobs(&stores[0], "hourly").await.len(), 1);
    // Another start does not change the time.
    let stop = CancellationToken::new();
    let started = tokio::spawn(hourly(&stores[0], now).run(stop.clone()));
    sleep(Duration::from_millis(300)).await;
    stop.cancel();
    started.await.unwrap();
    assert_eq!(due().await, Some(next));
    let kinds = ["hourly"];
    assert_eq!(hourly(&stores[1], now).run_due(&kinds).await.unwrap(), 0);
    assert_eq!(hourly(&stores[1], next).run_due(&kinds).await.unwrap(), 1);
    assert_eq!(due().await, Some(next + TimeDelta::hours(1)));
}

/// Truncated to the databases' precision.
fn as_kept(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

async fn small_plan(shop: &Shop) -> Value {
    let body = json!({
        "name": "small", "product_id": shop.id("products"), "auto_approve": true,
        "quota": { "requests": 50, "per": "month" },
    });
    shop.provider.make("plans", body).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_changes_at_its_time(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let (shop, store) = (Shop::open(&plane, "acme").await, plane.running.store.clone());
    let (small, subscription) = (small_plan(&shop).await, shop.path("subscriptions"));
    let body = json!({ "plan_id": small["id"] });
    shop.provider.patch(&subscription, json!({ "plan_id": Uuid::new_v4() })).await;
    assert_eq!(jobs(&store, "change_plan").await, [], "what was refused asks for nothing");
    shop.customer.patch(&subscription, body).await.ok();
    let at = period_end(plane.now.get());
    let asked = jobs(&store, "change_plan").await;
    assert_eq!(asked.iter().map(|it| it.due_at).collect::<Vec<_>>(), [at]);
    plane.now.advance(at - plane.now.get() - TimeDelta::seconds(1));
    let early = worker(&store, plane.now.get()).run_due(&["change_plan"]).await.unwrap();
    let now = shop.customer.get(&subscription).await.ok();
    assert_eq!((early, &now["plan_id"]), (0, &json!(shop.id("plans"))), "not before its time");
    plane.now.advance(TimeDelta::seconds(1));
    // The test's clock stands still; a commit wakes the worker.
    ask(&store, "unknown", "", at).await;
    until("the plan has changed", async || {
        shop.customer.get(&subscription).await.ok()["plan_id"] == small["id"]
    })
    .await;
    until("the job is gone", async || jobs(&store, "change_plan").await.is_empty()).await;
    let text = plane.admin.request(reqwest::Method::GET, "/metrics").send().await.unwrap();
    let text = text.text().await.unwrap();
    for name in [
        r#"imp_jobs_total{kind="change_plan",outcome="done"}"#,
        r#"imp_job_lag_seconds"#,
        r#"imp_job_duration_seconds"#,
    ] {
        assert!(text.contains(name), "{name} is missing");
    }
}

/// A release without jobs wrote the change; a scheduled job finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_plan_without_a_job_is_found() {
    let plane = ControlPlane::start().await;
    let (shop, store) = (Shop::open(&plane, "acme").await, plane.running.store.clone());
    let (small, subscription) = (small_plan(&shop).await, shop.path("subscriptions"));
    shop.customer.patch(&subscription, json!({ "plan_id": small["id"] })).await.ok();
    let at = period_end(plane.now.get());
    // Its job is lost.
    let lost = job::take(&store, &["change_plan"], at, LEASE).await.unwrap().unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(job::finish(&mut tx, &lost).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(change_plans(&store, at).await, 0);
    rests(&store, "sweep_plan_changes").await;
    let sweep = worker_at(&store, at);
    assert_eq!(sweep.run_due(&["sweep_plan_changes"]).await.unwrap(), 1);
    let rows = audit::of_object(&store, Uuid::nil()).await.unwrap();
    let swept: Vec<_> =
        rows.iter().filter(|row| row.operation == "jobs.sweep_plan_changes").collect();
    let [row] = swept.as_slice() else { panic!("{swept:?}") };
    assert_eq!(row.actor, Actor::Job);
    assert_eq!(row.detail, "sweep_plan_changes: 1 changes of plan were due without a job");
    assert_eq!(change_plans(&store, at).await, 1);
    assert_eq!(shop.customer.get(&subscription).await.ok()["plan_id"], small["id"]);
}
