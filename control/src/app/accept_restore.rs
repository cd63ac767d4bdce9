//! `imp-control accept-restore`: the operator accepts a restored database.

use imp_store::history;

use crate::operation::{Operation, Transaction};
use crate::refusal::Refusal;

/// From now on agents accept this database's history, whatever they have seen before. Returns the
/// new epoch. A running control plane need not be restarted.
pub async fn accept_restore(operation: &Operation) -> Result<i64, Refusal> {
    let database = history::database(&operation.store).await?;
    let mut tx = Transaction::begin(operation, operation.scope).await?;
    let now = tx.now.timestamp_millis();
    let epoch = history::accept(&mut tx, now).await?;
    tx.finish_with("history.accept_restore", database, format!("epoch {epoch}")).await?;
    Ok(epoch)
}
