//! The outbox: appended with the commit, read in order, and never lost.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use imp_core::{AgentId, ClusterId, GatewayId, PlanId, ProductPublishId};
use imp_store::audit::{self, Actor};
use imp_store::outbox::{self, Subject, Tail};
use imp_store::testing::Kind;
use imp_store::{Cause, Store, Tx};
use rstest::rstest;
use tokio::time::timeout;

use crate::shop::{store, write};

const SOON: Duration = Duration::from_secs(10);

fn gateway() -> Subject {
    Subject::Gateway(GatewayId::new())
}

async fn tell(store: &Store, subjects: &[Subject]) {
    let append = async |tx: &mut Tx| {
        for &subject in subjects {
            outbox::append(tx, subject).await?;
        }
        Ok(())
    };
    write(store, append).await.unwrap();
}

/// The subjects that the tail returns next.
async fn next(tail: &mut Tail, store: &Store) -> Vec<Subject> {
    tail.next(store).await.unwrap().into_iter().map(|told| told.subject).collect()
}

/// A transaction that has taken its number and not committed.
async fn open(store: &Store, subject: Subject) -> Tx {
    let mut tx = store.begin().await.unwrap();
    outbox::append(&mut tx, subject).await.unwrap();
    tx
}

#[rstest]
#[tokio::test]
async fn what_was_told_comes_in_order_and_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    tell(&store, &[gateway()]).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    assert_eq!(next(&mut tail, &store).await, [], "what was before");
    let (a, b, c) = (gateway(), Subject::Plan(PlanId::new()), Subject::Agent(AgentId::new()));
    tell(&store, &[a, b]).await;
    tell(&store, &[a, c, b]).await;
    assert_eq!(next(&mut tail, &store).await, [a, b, c]);
    assert_eq!(next(&mut tail, &store).await, []);
    tell(&store, &[a]).await;
    assert_eq!(next(&mut tail, &store).await, [a]);
    assert_eq!(outbox::head(&store).await.unwrap(), 7);
}

#[rstest]
#[tokio::test]
async fn a_subject_names_its_last_cause(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    let (caused, other) = (gateway(), gateway());
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    let second = Cause { request_id: "second".to_owned(), traceparent };
    for cause in [Cause { request_id: "first".to_owned(), ..Cause::default() }, second.clone()] {
        let mut tx = store.begin().await.unwrap();
        tx.caused_by(cause);
        outbox::append(&mut tx, caused).await.unwrap();
        tx.commit().await.unwrap();
    }
    tell(&store, &[other]).await;
    let told = tail.next(&store).await.unwrap();
    let causes: Vec<_> = told.iter().map(|told| (told.subject, told.cause.clone())).collect();
    assert_eq!(causes, [(caused, second), (other, Cause::default())]);
    assert!(told[0].at <= told[1].at && (Utc::now() - told[0].at).num_seconds().abs() < 60);
}

#[rstest]
#[tokio::test]
async fn every_kind_of_subject_is_read_as_it_was_told(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    let all = [
        Subject::Cluster(ClusterId::new()),
        Subject::Agent(AgentId::new()),
        gateway(),
        Subject::ProductPublish(ProductPublishId::new()),
        Subject::Plan(PlanId::new()),
        Subject::Subscription(Default::default()),
        Subject::Credential(Default::default()),
    ];
    tell(&store, &all).await;
    assert_eq!(next(&mut tail, &store).await, all);
}

#[rstest]
#[tokio::test]
async fn a_large_backlog_comes_in_parts(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    let told: Vec<Subject> = (0..2_500).map(|_| gateway()).collect();
    tell(&store, &told).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let part = next(&mut tail, &store).await;
        assert!((1..=1_000).contains(&part.len()), "{}", part.len());
        seen.extend(part);
    }
    assert_eq!(seen, told);
    assert_eq!(next(&mut tail, &store).await, []);
}

#[rstest]
#[tokio::test]
async fn a_transaction_taken_back_told_nothing_and_stops_nobody(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    let entry = audit::Entry {
        at: Utc::now(),
        actor: Actor::Platform,
        tenant_id: None,
        operation: "gateways.create".to_owned(),
        object_id: GatewayId::new().into(),
        detail: String::new(),
        request_id: String::new(),
    };
    let mut tx = open(&store, gateway()).await;
    audit::append(&mut tx, &entry).await.unwrap();
    tx.rollback().await.unwrap();
    let told = gateway();
    tell(&store, &[told]).await;
    assert_eq!(next(&mut tail, &store).await, [told]);
    for _ in 0..3 {
        assert_eq!(next(&mut tail, &store).await, []);
    }
    assert_eq!(audit::of_object(&store, entry.object_id).await.unwrap(), []);
}

#[rstest]
#[tokio::test]
async fn the_audit_trail_has_each_deed(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let object = GatewayId::new();
    let entry = |operation: &str| audit::Entry {
        at: imp_core::Meta::new(Utc::now()).created_at,
        actor: Actor::Token(imp_core::ApiTokenId::new()),
        tenant_id: Some(imp_core::TenantId::new()),
        operation: operation.to_owned(),
        object_id: object.into(),
        detail: "what came of it".to_owned(),
        request_id: "request-7".to_owned(),
    };
    let deeds = [
        entry("gateways.create"),
        audit::Entry { tenant_id: None, ..entry("gateways.delete") },
        audit::Entry { actor: Actor::Agent(imp_core::AgentId::new()), ..entry("agents.register") },
        audit::Entry { actor: Actor::Platform, tenant_id: None, ..entry("publishes.report") },
        audit::Entry { actor: Actor::Job, request_id: String::new(), ..entry("jobs.prune") },
        audit::Entry { actor: Actor::Bootstrap, ..entry("api_tokens.bootstrap") },
    ];
    for deed in &deeds {
        write(&store, async |tx| audit::append(tx, deed).await).await.unwrap();
    }
    assert_eq!(audit::of_object(&store, object).await.unwrap(), deeds);
}

/// The lower number is committed last: already at the head, and while following.
#[tokio::test]
async fn what_is_committed_out_of_order_is_not_lost() {
    let (_database, store) = store(Kind::Postgres).await;
    let [early, a, b, late, c] = [(); 5].map(|()| gateway());
    let before_the_head = open(&store, early).await;
    tell(&store, &[a]).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    assert_eq!(next(&mut tail, &store).await, []);

    let behind = open(&store, late).await;
    tell(&store, &[b]).await;
    assert_eq!(next(&mut tail, &store).await, [b]);
    for _ in 0..3 {
        assert_eq!(next(&mut tail, &store).await, [], "nothing is committed");
    }
    behind.commit().await.unwrap();
    assert_eq!(next(&mut tail, &store).await, [late]);
    tell(&store, &[c]).await;
    before_the_head.commit().await.unwrap();
    assert_eq!(next(&mut tail, &store).await, [early, c]);
    for _ in 0..3 {
        assert_eq!(next(&mut tail, &store).await, []);
    }
}

/// The transaction that began later has the lower number, and is the newest of the server: none that
/// began after it has ended. Other tests have newer ones; alone, this one is sure to be it.
#[tokio::test]
async fn the_newest_transaction_is_waited_for() {
    let (_database, store) = store(Kind::Postgres).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    let [a, late, b] = [(); 3].map(|()| gateway());
    let mut older = open(&store, a).await;
    let newest = open(&store, late).await;
    outbox::append(&mut older, b).await.unwrap();
    older.commit().await.unwrap();
    assert_eq!(next(&mut tail, &store).await, [a, b]);
    for _ in 0..3 {
        assert_eq!(next(&mut tail, &store).await, [], "it is not committed");
    }
    newest.commit().await.unwrap();
    assert_eq!(next(&mut tail, &store).await, [late]);
}

/// Writers that overlap in every way, some of which roll back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_lose_nothing() {
    let (database, store) = store(Kind::Postgres).await;
    let second = database.open().await.unwrap();
    let mut tail = Tail::at_head(&store).await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = if writer % 2 == 0 { store.clone() } else { second.clone() };
            tokio::spawn(async move {
                let mut told = Vec::new();
                for round in 0..25 {
                    let (a, b) = (gateway(), gateway());
                    let mut tx = open(&store, a).await;
                    tokio::task::yield_now().await;
                    outbox::append(&mut tx, b).await.unwrap();
                    if round % 5 == writer % 5 {
                        tx.rollback().await.unwrap();
                    } else {
                        tx.commit().await.unwrap();
                        told.extend([a, b]);
                    }
                }
                told
            })
        })
        .collect();
    let mut seen = Vec::new();
    while writers.iter().any(|writer| !writer.is_finished()) {
        seen.extend(next(&mut tail, &store).await);
    }
    seen.extend(next(&mut tail, &store).await);
    let mut told = Vec::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    told.sort();
    seen.sort();
    assert_eq!(seen, told);
}

#[rstest]
#[tokio::test]
async fn a_commit_wakes_who_follows(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut changed = store.changed();
    changed.mark_unchanged();
    let tx = open(&store, gateway()).await;
    tokio::task::yield_now().await;
    drop(tx);
    write(&store, async |_| Ok(())).await.unwrap();
    assert!(kind == Kind::Postgres || !changed.has_changed().unwrap(), "nothing was told");
    tell(&store, &[gateway()]).await;
    timeout(SOON, changed.changed()).await.unwrap().unwrap();
}

/// Two control planes on one PostgreSQL.
#[tokio::test]
async fn a_commit_wakes_other_replicas() {
    let (database, store) = store(Kind::Postgres).await;
    let replica = database.open().await.unwrap();
    let mut tail = Tail::at_head(&replica).await.unwrap();
    let mut changed = replica.changed();
    // The start of listening also wakes once.
    for _ in 0..3 {
        changed.mark_unchanged();
        let told = gateway();
        tell(&store, &[told]).await;
        timeout(SOON, changed.changed()).await.unwrap().unwrap();
        assert_eq!(next(&mut tail, &replica).await, [told]);
    }
}

#[rstest]
#[tokio::test]
async fn pruning_leaves_the_young_and_the_newest(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    tell(&store, &[gateway(), gateway(), gateway()]).await;
    let now = Utc::now();
    let prune = async |to| write(&store, async |tx| outbox::prune(tx, to).await).await.unwrap();
    assert_eq!(prune(now - TimeDelta::hours(1)).await, 0);
    assert_eq!(prune(now + TimeDelta::hours(1)).await, 2);
    assert_eq!(prune(now + TimeDelta::hours(1)).await, 0);
    assert_eq!(outbox::head(&store).await.unwrap(), 3);
    let mut tail = Tail::at_head(&store).await.unwrap();
    let told = gateway();
    tell(&store, &[told]).await;
    assert_eq!(next(&mut tail, &store).await, [told]);
    assert_eq!(outbox::head(&store).await.unwrap(), 4, "numbers are not given again");
}

/// A newer release has subjects that this one has no name for.
#[rstest]
#[tokio::test]
async fn an_unknown_kind_is_passed_over(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (database, store) = store(kind).await;
    let mut tail = Tail::at_head(&store).await.unwrap();
    let sql = "INSERT INTO outbox (kind, subject) VALUES ('later', $1)";
    let id = uuid::Uuid::now_v7();
    match kind {
        Kind::Sqlite => {
            let pool = sqlx::SqlitePool::connect(database.url()).await.unwrap();
            sqlx::query(sql).bind(id).execute(&pool).await.unwrap();
        }
        Kind::Postgres => {
            let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
            sqlx::query(sql).bind(id).execute(&pool).await.unwrap();
        }
    }
    let told = gateway();
    tell(&store, &[told]).await;
    assert_eq!(next(&mut tail, &store).await, [told]);
}
