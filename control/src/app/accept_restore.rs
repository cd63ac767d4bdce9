//! A person says that a restored database counts.

use chrono::{DateTime, Utc};
use imp_store::audit::{self, Actor, Entry};
use imp_store::{Store, StoreError, history};

/// From now on agents take this database's history, whatever they have seen of another one; the new
/// epoch. A running control plane need not be started again.
pub async fn accept_restore(store: &Store, now: DateTime<Utc>) -> Result<i64, StoreError> {
    let database = history::database(store).await?;
    let mut tx = store.begin().await?;
    let epoch = history::accept(&mut tx, now.timestamp_millis()).await?;
    let entry = Entry {
        at: now,
        actor: Actor::Bootstrap,
        tenant_id: None,
        operation: "history.accept_restore".to_owned(),
        object_id: database,
        detail: format!("epoch {epoch}"),
        request_id: String::new(),
    };
    audit::append(&mut tx, &entry).await?;
    tx.commit().await?;
    Ok(epoch)
}
