//! Jobs: committed with their cause, done by one worker at a time, never lost.

use std::time::Duration;

use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use imp_store::Store;
use imp_store::job::{self, Job, NewJob};
use imp_store::testing::{Database, Kind};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::shop::{store, write};

const LEASE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(300);
const KINDS: &[&str] = &["bill", "sweep"];

fn day() -> DateTime<Utc> {
    "2030-01-01T00:00:00Z".parse().unwrap()
}

fn bill(key: &str, due_at: DateTime<Utc>) -> NewJob {
    let payload = json!({ "for": key });
    NewJob { kind: "bill", key: key.to_owned(), payload, due_at, created_at: day() }
}

async fn schedule(store: &Store, new: NewJob) {
    write(store, async |tx| job::schedule(tx, &new).await).await.unwrap();
}

async fn take(store: &Store, now: DateTime<Utc>, lease: Duration) -> Option<Job> {
    job::take(store, KINDS, now, lease).await.unwrap()
}

async fn finish(store: &Store, job: &Job) -> bool {
    write(store, async |tx| job::finish(tx, job).await).await.unwrap()
}

async fn waiting(store: &Store) -> Vec<Job> {
    job::list(store, "bill").await.unwrap()
}

#[rstest]
#[tokio::test]
async fn a_job_is_there_with_its_cause_or_not_at_all(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let woken = store.jobs_changed();
    let mut tx = store.begin().await.unwrap();
    job::schedule(&mut tx, &bill("a", day())).await.unwrap();
    tx.rollback().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    job::schedule(&mut tx, &bill("b", day())).await.unwrap();
    drop(tx);
    assert_eq!(waiting(&store).await, []);
    assert!(!woken.has_changed().unwrap(), "nobody wakes for what was taken back");
    schedule(&store, bill("c", day())).await;
    assert!(woken.has_changed().unwrap());
    let [job] = &waiting(&store).await[..] else { panic!("one job") };
    assert_eq!((job.key.as_str(), &job.payload, job.due_at), ("c", &json!({"for": "c"}), day()));
    assert_eq!((job.attempts, job.holder, job.last_error.as_str()), (0, None, ""));
}

#[rstest]
#[tokio::test]
async fn one_job_of_a_key_waits_and_is_due_at_the_earliest_time(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let hour = TimeDelta::hours(1);
    schedule(&store, bill("a", day() + hour)).await;
    schedule(&store, bill("a", day() + hour * 2)).await;
    schedule(&store, NewJob { payload: Value::Null, ..bill("a", day()) }).await;
    schedule(&store, bill("b", day() + hour)).await;
    let seen: Vec<_> = waiting(&store).await.into_iter().map(|it| (it.key, it.due_at)).collect();
    assert_eq!(seen, [("a".to_owned(), day()), ("b".to_owned(), day() + hour)]);
    assert_eq!(waiting(&store).await[0].payload, Value::Null, "as it was asked for last");
    // Once done, the key is free.
    let job = take(&store, day(), LEASE).await.unwrap();
    assert!(finish(&store, &job).await);
    schedule(&store, bill("a", day() + hour)).await;
    assert_eq!(waiting(&store).await.len(), 2);
    // A seed does not change an existing job.
    let seed = bill("b", day());
    assert!(!write(&store, async |tx| job::seed(tx, &seed).await).await.unwrap());
    assert_eq!(waiting(&store).await[1].due_at, day() + hour);
}

#[rstest]
#[tokio::test]
async fn nothing_is_taken_before_its_time_nor_of_a_kind_that_nobody_knows(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    schedule(&store, NewJob { kind: "newer", ..bill("x", day()) }).await;
    schedule(&store, bill("later", day() + TimeDelta::seconds(10))).await;
    schedule(&store, bill("sooner", day() + TimeDelta::seconds(5))).await;
    let due = day() + TimeDelta::seconds(5);
    assert_eq!(job::next_due(&store, KINDS).await.unwrap(), Some(due));
    assert_eq!(take(&store, due - TimeDelta::milliseconds(1), LEASE).await, None);
    let sooner = take(&store, due, LEASE).await.unwrap();
    assert_eq!((sooner.key.as_str(), sooner.attempts), ("sooner", 1));
    assert_eq!(take(&store, due, LEASE).await, None);
    let next = job::next_due(&store, KINDS).await.unwrap();
    assert_eq!(next, Some(day() + TimeDelta::seconds(10)), "what is held is not waited for");
    assert_eq!(take(&store, day() + TimeDelta::days(1), LEASE).await.unwrap().key, "later");
    assert_eq!(job::next_due(&store, KINDS).await.unwrap(), None);
}

/// Two stores on one database are two replicas.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_job_goes_to_one_of_several_workers(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let stores = [database.open().await.unwrap(), database.open().await.unwrap()];
    for number in 0..40 {
        schedule(&stores[0], bill(&number.to_string(), day())).await;
    }
    let work = |store: Store| async move {
        let mut done = Vec::new();
        while let Some(job) = take(&store, day(), LEASE).await {
            done.push(job.key.clone());
            assert!(finish(&store, &job).await);
        }
        done
    };
    let workers = (0..4).map(|n| tokio::spawn(work(stores[n % 2].clone())));
    let mut done = Vec::new();
    for worker in workers.collect::<Vec<_>>() {
        done.extend(worker.await.unwrap());
    }
    assert_eq!(done.len(), 40, "each once");
    done.sort();
    done.dedup();
    assert_eq!(done.len(), 40, "all of them");
    assert_eq!(waiting(&stores[1]).await, []);
}

#[rstest]
#[tokio::test]
async fn the_lease_of_a_dead_worker_ends_and_its_job_goes_to_another(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let other = database.open().await.unwrap();
    schedule(&store, bill("a", day())).await;
    let dead = take(&store, day(), SHORT).await.unwrap();
    assert_eq!(take(&other, day(), LEASE).await, None, "its lease holds");
    // A slow but living worker keeps its job.
    for _ in 0..4 {
        sleep(SHORT / 2).await;
        assert!(job::renew(&store, &dead, SHORT).await.unwrap());
        assert_eq!(take(&other, day(), LEASE).await, None);
    }
    sleep(SHORT * 2).await;
    let heir = take(&other, day(), LEASE).await.unwrap();
    assert_eq!((heir.id, heir.attempts), (dead.id, 2));
    // A worker that was thought dead cannot change the job any more.
    assert!(!job::renew(&store, &dead, LEASE).await.unwrap());
    let held = async |job: &Job| write(&store, async |tx| job::confirm(tx, job).await).await;
    assert!(!held(&dead).await.unwrap() && held(&heir).await.unwrap());
    assert!(!finish(&store, &dead).await);
    let fail = async |tx: &mut _| job::fail(tx, &dead, day(), "late").await;
    assert!(!write(&store, fail).await.unwrap());
    assert!(finish(&other, &heir).await);
    assert_eq!(waiting(&store).await, []);
}

#[rstest]
#[tokio::test]
async fn what_is_asked_for_while_it_runs_runs_again(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    schedule(&store, bill("a", day())).await;
    let running = take(&store, day(), LEASE).await.unwrap();
    schedule(&store, bill("a", day())).await;
    assert_eq!(take(&store, day(), LEASE).await, None, "not twice at the same time");
    assert!(finish(&store, &running).await);
    let again = take(&store, day(), LEASE).await.unwrap();
    assert_eq!((again.id, again.attempts), (running.id, 1));
    // Also if it ended with a later due time.
    schedule(&store, bill("a", day())).await;
    let later = day() + TimeDelta::days(1);
    let rest = async |job: &Job| write(&store, async |tx| job::repeat(tx, job, later).await).await;
    assert!(rest(&again).await.unwrap());
    let third = take(&store, day(), LEASE).await.unwrap();
    assert!(rest(&third).await.unwrap());
    assert_eq!(take(&store, day(), LEASE).await, None);
    assert_eq!(waiting(&store).await[0].due_at, later);
}

#[rstest]
#[tokio::test]
async fn a_failure_is_kept_and_counted_until_it_succeeds(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    schedule(&store, bill("a", day())).await;
    let mut now = day();
    for attempt in 1..=3 {
        let job = take(&store, now, LEASE).await.unwrap();
        assert_eq!(job.attempts, attempt);
        now += TimeDelta::minutes(attempt);
        let long = format!("no\0pe {}", "x".repeat(5000));
        let fail = async |tx: &mut _| job::fail(tx, &job, now, &long).await;
        assert!(write(&store, fail).await.unwrap());
        assert_eq!(take(&store, now - TimeDelta::seconds(1), LEASE).await, None);
    }
    let job = take(&store, now, LEASE).await.unwrap();
    assert!(job.last_error.starts_with("nope x") && job.last_error.len() == 1000);
    let later = now + TimeDelta::hours(1);
    assert!(write(&store, async |tx| job::repeat(tx, &job, later).await).await.unwrap());
    let rested = waiting(&store).await;
    assert_eq!((rested[0].attempts, rested[0].last_error.as_str()), (0, ""));
    // A worker that stops releases the job at once.
    let job = take(&store, later, LEASE).await.unwrap();
    assert!(write(&store, async |tx| job::release(tx, &job).await).await.unwrap());
    assert_eq!(take(&store, later, LEASE).await.unwrap().id, job.id);
}

/// A transaction that stays open blocks neither the worker nor the other jobs.
#[tokio::test]
async fn a_job_that_a_transaction_holds_is_passed_over() {
    let (_database, store) = store(Kind::Postgres).await;
    schedule(&store, bill("a", day())).await;
    schedule(&store, bill("b", day() + TimeDelta::seconds(1))).await;
    let mut cause = store.begin().await.unwrap();
    job::schedule(&mut cause, &bill("a", day())).await.unwrap();
    let soon = Duration::from_secs(5);
    let now = day() + TimeDelta::seconds(1);
    let taken = timeout(soon, take(&store, now, LEASE)).await.unwrap().unwrap();
    assert_eq!(taken.key, "b");
    cause.commit().await.unwrap();
    assert_eq!(take(&store, now, LEASE).await.unwrap().key, "a");
}

#[rstest]
#[tokio::test]
async fn times_are_kept_to_the_microsecond(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let due = Utc::now();
    schedule(&store, bill("a", due)).await;
    assert_eq!(waiting(&store).await[0].due_at, due.trunc_subsecs(6));
}
