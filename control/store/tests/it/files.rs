//! SQLite's file: failing to open gives a one-line error that says what to do; writers queue.

use imp_core::cluster::Cluster;
use imp_store::Record as _;
use imp_store::Writable as _;
use std::fs;
use std::path::Path;

use imp_store::testing::Kind;
use imp_store::{Page, Store, StoreError};
use rstest::rstest;
use tempfile::TempDir;

use crate::shop::{self, Shop, all, store, write};

async fn refused(url: &str) -> String {
    match Store::open(url).await.err().unwrap() {
        StoreError::Unavailable(line) => {
            assert!(!line.contains('\n'), "{line}");
            line
        }
        other => panic!("{other:?}"),
    }
}

fn url(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

#[tokio::test]
async fn a_file_that_is_no_database() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "this is not a database, whatever its name says. ".repeat(100)).unwrap();
    let line = refused(&url(&path)).await;
    assert!(line.contains(&*path.to_string_lossy()), "{line}");
    assert!(line.contains("not a database; move it away"), "{line}");
    assert!(fs::read_to_string(&path).unwrap().starts_with("this is"), "it was touched");
}

#[tokio::test]
async fn a_folder_in_the_place_of_the_file() {
    let folder = TempDir::new().unwrap();
    let line = refused(&url(folder.path())).await;
    assert!(line.contains("check that it is a file that we may write"), "{line}");
}

#[tokio::test]
async fn a_folder_that_cannot_be_made() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let line = refused(&url(&file.join("imp.db"))).await;
    assert!(line.starts_with("cannot open the database file"), "{line}");
}

#[tokio::test]
async fn a_missing_folder_is_made_and_only_its_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("deep/down/imp.db");
    Store::open(&url(&path)).await.unwrap().close().await;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_url_of_neither_kind() {
    for url in ["mysql://localhost/imp", "imp.db", ""] {
        let line = refused(url).await;
        assert!(line.contains("sqlite://PATH or postgres://"), "{line}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_without_its_password() {
    let line = refused("postgres://imp:hunter2@127.0.0.1:1/shop").await;
    assert!(line.contains("database shop at 127.0.0.1:1"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

/// A database that a newer release has migrated further still works.
#[rstest]
#[tokio::test]
async fn opened_again_it_holds_what_it_held(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    store.close().await;
    newer(database.url()).await;
    let store = database.open().await.unwrap();
    assert_eq!(Cluster::get(&store, &all(), shop.cluster.id).await.unwrap(), Some(shop.cluster));
}

/// Records a migration that this build does not know.
async fn newer(url: &str) {
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, \
        execution_time) VALUES (9999, 'later', true, $1, 0)";
    let checksum = vec![7_u8; 48];
    if url.starts_with("sqlite") {
        let pool = sqlx::SqlitePool::connect(url).await.unwrap();
        sqlx::query(sql).bind(checksum).execute(&pool).await.unwrap();
        pool.close().await;
    } else {
        let pool = sqlx::PgPool::connect(url).await.unwrap();
        sqlx::query(sql).bind(checksum).execute(&pool).await.unwrap();
        pool.close().await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_the_same_time_all_succeed(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (database, store) = store(kind).await;
    // A second handle: SQLite's own locking, besides our queue.
    let second = database.open().await.unwrap();
    let writers: Vec<_> = (0..40)
        .map(|index| {
            let store = if index % 4 == 0 { second.clone() } else { store.clone() };
            tokio::spawn(async move {
                let cluster = shop::cluster(&format!("c{index}"));
                let add = async |tx: &mut _| {
                    // Reads first: such a transaction fails if it cannot become a writer.
                    Cluster::list_in(tx, &all(), &Default::default(), Page::all()).await?;
                    cluster.insert(tx).await
                };
                write(&store, add).await
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let clusters = Cluster::list(&store, &all(), &Default::default(), Page::all()).await.unwrap();
    assert_eq!(clusters.len(), 40);
}

/// Uncommitted changes are invisible, and a reader does not wait for them.
#[rstest]
#[tokio::test]
async fn readers_see_what_is_committed_and_wait_for_nobody(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let cluster = shop::cluster("new");
    let mut tx = store.begin().await.unwrap();
    cluster.insert(&mut tx).await.unwrap();
    assert_eq!(Cluster::get(&store, &all(), cluster.id).await.unwrap(), None);
    tx.commit().await.unwrap();
    assert!(Cluster::get(&store, &all(), cluster.id).await.unwrap().is_some());
    let mut tx = store.begin().await.unwrap();
    Cluster::delete(&mut tx, &all(), cluster.id).await.unwrap();
    drop(tx);
    assert!(Cluster::get(&store, &all(), cluster.id).await.unwrap().is_some());
}
