//! A database that was restored from a backup is refused by agents that have seen more of it.

use std::path::Path;

use imp_control::app::accept_restore::accept_restore;
use imp_control::hub::history;
use imp_control::operation::Operation;
use imp_control::state::Clock;
use imp_core::CredentialId;
use imp_store::outbox::{self, Subject};
use imp_store::{Store, audit};
use tonic::Code;

async fn open(directory: &Path) -> Store {
    Store::open(&format!("sqlite://{}", directory.join("imp.db").display())).await.unwrap()
}

async fn revoke(store: &Store) {
    let mut tx = store.begin().await.unwrap();
    outbox::append(&mut tx, Subject::Credential(CredentialId::new())).await.unwrap();
    tx.commit().await.unwrap();
}

/// The header of an agent that has seen the current point.
async fn seen(store: &Store) -> http::HeaderMap {
    let told = history::now(store).await.unwrap().unwrap();
    let mut headers = http::HeaderMap::new();
    headers.insert("imp-history", told.point.parse().unwrap());
    headers
}

#[tokio::test]
async fn a_backup_is_refused_to_agents_that_have_seen_more_until_a_person_accepts_it() {
    let (live, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(live.path()).await;
    revoke(&store).await;
    let before = seen(&store).await;
    store.close().await;
    std::fs::copy(live.path().join("imp.db"), backup.path().join("imp.db")).unwrap();
    let store = open(live.path()).await;
    revoke(&store).await;
    let after = seen(&store).await;
    history::judge(&store, &before).await.unwrap();
    history::judge(&store, &after).await.unwrap();

    let restored = open(backup.path()).await;
    history::judge(&restored, &before).await.unwrap();
    history::judge(&restored, &http::HeaderMap::new()).await.unwrap();
    // Also if it has continued since, up to the same number.
    for changes in 0..3 {
        let refused = history::judge(&restored, &after).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{changes}");
        let reason = refused.metadata().get("imp-reason").unwrap();
        assert_eq!(reason, "control_went_back");
        revoke(&restored).await;
    }

    let operation = Operation::of_bootstrap(restored.clone(), Clock::system());
    accept_restore(&operation).await.unwrap();
    history::judge(&restored, &after).await.unwrap();
    let database = imp_store::history::database(&restored).await.unwrap();
    let deeds = audit::of_object(&restored, database).await.unwrap();
    assert_eq!(deeds.len(), 1);
    assert_eq!(deeds[0].operation, "history.accept_restore");
    assert_eq!(deeds[0].actor, audit::Actor::Bootstrap);
    // What agents see from now on is not in the replaced database.
    let next = seen(&restored).await;
    assert_eq!(history::judge(&store, &next).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[cfg(unix)]
#[tokio::test]
async fn the_data_directory_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let config = imp_control::config::Config::in_process(directory.path());
    let running = imp_control::app::App::start(config).await.unwrap();
    let mode = std::fs::metadata(directory.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    running.shutdown().await;
}
