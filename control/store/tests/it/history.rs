//! The identity and history of a database.

use imp_core::GatewayId;
use imp_store::history::{self, Point};
use imp_store::outbox::{self, Subject};
use imp_store::testing::Kind;
use imp_store::{Store, Tx};
use rstest::rstest;

use crate::shop::{store, write};

async fn change(store: &Store) {
    let append = async |tx: &mut Tx| outbox::append(tx, Subject::Gateway(GatewayId::new())).await;
    write(store, append).await.unwrap();
}

async fn now(store: &Store) -> Point {
    history::now(store).await.unwrap().unwrap()
}

#[rstest]
#[tokio::test]
async fn what_was_seen_is_known_and_what_was_not_is_not(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let empty = now(&store).await;
    assert_eq!((empty.position, empty.epoch), (0, 0));
    change(&store).await;
    let one = now(&store).await;
    change(&store).await;
    let two = now(&store).await;
    assert!(one.position < two.position && one.mark != two.mark);
    for known in [empty, one, two] {
        assert!(history::includes(&store, &known).await.unwrap(), "{known}");
        assert_eq!(known.to_string().parse(), Ok(known));
    }
    let others = [
        Point { position: two.position + 1, ..two },
        Point { mark: two.mark ^ 1, ..two },
        Point { epoch: 1, ..two },
        Point { database: uuid::Uuid::nil(), ..one },
    ];
    for other in others {
        assert!(!history::includes(&store, &other).await.unwrap(), "{other}");
    }

    // The operator accepts the restored history.
    let mut tx = store.begin().await.unwrap();
    let epoch = history::accept(&mut tx, 1_000).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((epoch, now(&store).await.epoch), (1_000, 1_000));
    let later = Point { position: two.position + 100, ..two };
    assert!(history::includes(&store, &later).await.unwrap());
    let mut tx = store.begin().await.unwrap();
    assert_eq!(history::accept(&mut tx, 5).await.unwrap(), 1_001, "never the same one again");
    tx.commit().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn what_was_pruned_is_still_true(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    change(&store).await;
    let seen = now(&store).await;
    change(&store).await;
    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    write(&store, async |tx: &mut Tx| outbox::prune(tx, later).await.map(drop)).await.unwrap();
    assert!(history::includes(&store, &seen).await.unwrap());
}

#[test]
fn what_is_no_point_is_none() {
    for text in ["", "x", "1 2 3 4", "00000000-0000-0000-0000-000000000000 1 2", "\u{0}"] {
        assert!(text.parse::<Point>().is_err(), "{text:?}");
    }
}
