//! Events are read in order, at least once, and never lost.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use imp_core::TenantId;
use imp_store::audit::{self, Actor, Entry};
use imp_store::event::{self, Event, Reader};
use imp_store::testing::Kind;
use imp_store::{Store, Tx};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::shop::{store, write};

const NAME: &str = "webhooks";

fn entry(operation: &str) -> Entry {
    Entry {
        at: imp_core::Meta::new(Utc::now()).created_at,
        actor: Actor::Platform,
        tenant_id: Some(TenantId::new()),
        operation: operation.to_owned(),
        object_id: Uuid::now_v7(),
        detail: "pending -> active".to_owned(),
        request_id: String::new(),
    }
}

async fn tell(store: &Store, operation: &str) {
    write(store, async |tx| audit::append(tx, &entry(operation)).await).await.unwrap();
}

/// A transaction that has taken its number and not committed.
async fn open(store: &Store, operation: &str) -> Tx {
    let mut tx = store.begin().await.unwrap();
    audit::append(&mut tx, &entry(operation)).await.unwrap();
    tx
}

async fn follow(store: &Store, name: &str) {
    let now = Utc::now();
    write(store, async |tx| event::follow(tx, name, 0, now).await).await.unwrap();
}

async fn advance(store: &Store, name: &str, seq: i64) -> bool {
    let now = Utc::now();
    write(store, async |tx| event::advance(tx, name, seq, now).await).await.unwrap()
}

/// Handles everything that can be read. Returns the operations, in order.
async fn drain(store: &Store, reader: &mut Reader) -> Vec<String> {
    let mut seen = Vec::new();
    // Some reads find nothing although there is more.
    for _ in 0..5 {
        let events = reader.read(store, 100).await.unwrap();
        if let Some(last) = events.last() {
            assert!(advance(store, NAME, last.seq).await);
        }
        seen.extend(events.into_iter().map(|event| event.entry.operation));
    }
    seen
}

/// Handles this many events, some of which may wait for a transaction that is being taken back.
async fn deal_with(store: &Store, reader: &mut Reader, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let until = Instant::now() + Duration::from_secs(20);
    while seen.len() < count && Instant::now() < until {
        seen.extend(drain(store, reader).await);
        sleep(Duration::from_millis(20)).await;
    }
    seen
}

#[rstest]
#[tokio::test]
async fn events_come_in_order_with_their_payloads(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let (deed, payload) =
        (entry("product_publishes.report"), json!({ "from": "a", "revision": 3 }));
    let report = async |tx: &mut _| audit::append_event(tx, &deed, &payload).await;
    write(&store, report).await.unwrap();
    tell(&store, "plans.create").await;
    tell(&store, "plans.update").await;
    let mut reader = Reader::new(NAME);
    assert_eq!(reader.read(&store, 2).await.unwrap(), [], "nobody follows");
    follow(&store, NAME).await;
    let events = reader.read(&store, 2).await.unwrap();
    let [first, second] = &events[..] else { panic!("{events:?}") };
    assert_eq!(first, &Event { seq: first.seq, entry: deed, payload });
    assert_eq!((second.entry.operation.as_str(), &second.payload), ("plans.create", &json!({})));
    // Until they are handled they are returned again, also to another process.
    assert_eq!(reader.read(&store, 2).await.unwrap(), events);
    assert_eq!(Reader::new(NAME).read(&store, 2).await.unwrap(), events);
    assert!(advance(&store, NAME, second.seq).await);
    assert_eq!(drain(&store, &mut reader).await, ["plans.update"]);
    // A reader that follows again keeps its place; the cursor never goes back.
    follow(&store, NAME).await;
    assert!(!advance(&store, NAME, first.seq).await);
    assert_eq!(drain(&store, &mut reader).await, Vec::<String>::new());
}

#[rstest]
#[tokio::test]
async fn the_cursor_moves_with_what_was_done_about_the_events(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    follow(&store, NAME).await;
    tell(&store, "a.b").await;
    let mut reader = Reader::new(NAME);
    let seq = reader.read(&store, 10).await.unwrap()[0].seq;
    let mut tx = store.begin().await.unwrap();
    assert!(event::advance(&mut tx, NAME, seq, Utc::now()).await.unwrap());
    tx.rollback().await.unwrap();
    assert_eq!(reader.read(&store, 10).await.unwrap().len(), 1, "it was taken back");
    // Of two that handle the same events, one succeeds.
    assert!(advance(&store, NAME, seq).await);
    assert!(!advance(&store, NAME, seq).await);
    assert_eq!(event::cursor(&store, NAME).await.unwrap(), Some(seq));
}

/// The lower number is committed last.
#[tokio::test]
async fn what_is_committed_late_is_waited_for() {
    let (_database, store) = store(Kind::Postgres).await;
    follow(&store, NAME).await;
    let mut reader = Reader::new(NAME);
    tell(&store, "one").await;
    let late = open(&store, "two").await;
    tell(&store, "three").await;
    assert_eq!(drain(&store, &mut reader).await, ["one"]);
    assert_eq!(drain(&store, &mut Reader::new(NAME)).await, Vec::<String>::new());
    let later = open(&store, "four").await;
    late.commit().await.unwrap();
    assert_eq!(drain(&store, &mut reader).await, ["two", "three"]);
    tell(&store, "five").await;
    let last = open(&store, "six").await;
    tell(&store, "seven").await;
    assert_eq!(drain(&store, &mut reader).await, Vec::<String>::new());
    // A rollback is skipped once no open transaction could hold its number.
    later.rollback().await.unwrap();
    assert_eq!(drain(&store, &mut reader).await, Vec::<String>::new());
    last.commit().await.unwrap();
    assert_eq!(deal_with(&store, &mut reader, 3).await, ["five", "six", "seven"]);
    open(&store, "eight").await.rollback().await.unwrap();
    tell(&store, "nine").await;
    assert_eq!(deal_with(&store, &mut reader, 1).await, ["nine"]);
}

/// As for the outbox: the lower number belongs to the newest transaction of all.
#[tokio::test]
async fn the_newest_transaction_is_waited_for() {
    let (_database, store) = store(Kind::Postgres).await;
    follow(&store, NAME).await;
    let mut reader = Reader::new(NAME);
    let mut older = store.begin().await.unwrap();
    event::follow(&mut older, "another", 0, Utc::now()).await.unwrap();
    let newest = open(&store, "one").await;
    audit::append(&mut older, &entry("two")).await.unwrap();
    older.commit().await.unwrap();
    assert_eq!(drain(&store, &mut reader).await, Vec::<String>::new());
    newest.commit().await.unwrap();
    assert_eq!(deal_with(&store, &mut reader, 2).await, ["one", "two"]);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_writers_nothing_is_lost(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    follow(&store, NAME).await;
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut told = Vec::new();
                for round in 0..15 {
                    let name = format!("{writer}.{round}");
                    let tx = open(&store, &name).await;
                    tokio::task::yield_now().await;
                    if round % 4 == writer % 4 {
                        tx.rollback().await.unwrap();
                    } else {
                        tx.commit().await.unwrap();
                        told.push(name);
                    }
                }
                told
            })
        })
        .collect();
    let (mut reader, mut seen) = (Reader::new(NAME), Vec::new());
    while writers.iter().any(|writer| !writer.is_finished()) {
        seen.extend(drain(&store, &mut reader).await);
    }
    let mut told = Vec::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    let left = told.len() - seen.len();
    seen.extend(deal_with(&store, &mut reader, left).await);
    seen.extend(drain(&store, &mut reader).await);
    seen.sort();
    told.sort();
    assert_eq!(seen, told, "each once");
}

#[rstest]
#[tokio::test]
async fn nothing_is_pruned_before_the_slowest_reader(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    follow(&store, NAME).await;
    follow(&store, "rating").await;
    for _ in 0..3 {
        tell(&store, audit::REPORT).await;
    }
    let later = Utc::now() + TimeDelta::days(1);
    let prune =
        async || write(&store, async |tx| audit::prune_reports(tx, later).await).await.unwrap();
    assert_eq!(prune().await, 0);
    let mut reader = Reader::new(NAME);
    let events = reader.read(&store, 10).await.unwrap();
    assert!(advance(&store, NAME, events[2].seq).await);
    assert_eq!(prune().await, 0, "the other one has not read them");
    assert!(advance(&store, "rating", events[0].seq).await);
    assert_eq!(prune().await, 1);
    let retire = async || write(&store, async |tx| event::retire(tx, "rating").await).await;
    assert!(retire().await.unwrap() && !retire().await.unwrap());
    assert_eq!(prune().await, 2);
    assert_eq!(reader.read(&store, 10).await.unwrap(), []);
}

#[rstest]
#[tokio::test]
async fn a_payload_that_is_too_large_is_left_out(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    follow(&store, NAME).await;
    let large = json!({ "text": "x".repeat(5000) });
    let deed = entry("a.b");
    write(&store, async |tx| audit::append_event(tx, &deed, &large).await).await.unwrap();
    let events = Reader::new(NAME).read(&store, 1).await.unwrap();
    let Value::Object(payload) = &events[0].payload else { panic!("an object") };
    assert_eq!(payload.keys().collect::<Vec<_>>(), ["left_out_bytes"]);
}
