//! Runs long computations off the runtime's workers. A worker that computes polls no socket
//! meanwhile, and may be the one that polls for all.

use std::pin::pin;

use imp_store::Store;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Smaller inputs are handled inline.
pub const LARGE: usize = 16 << 10;

/// Runs work on this many bytes; if they are many, the worker's other tasks move to another thread
/// first.
pub fn off_workers<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) if bytes >= LARGE => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Like [`off_workers`], for a future that computes between its awaits.
pub async fn polled_off_workers<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| off_workers(LARGE, || future.as_mut().poll(context))).await
}

/// Runs a transaction's statements. On SQLite each is a short answer from another thread, so they
/// run on this thread to their end, after the worker's other tasks have moved to another one. Each
/// answer then wakes one sleeping thread. A task of the runtime would be woken through its queue
/// and its poll of the sockets, and would wake another worker to look for more: on two cores as
/// expensive as the statement. PostgreSQL may take long to answer, and such a thread could not be
/// cancelled.
pub async fn statements<F: Future>(store: &Store, future: F) -> F::Output {
    match Handle::try_current() {
        Ok(runtime)
            if !store.is_postgres() && runtime.runtime_flavor() == RuntimeFlavor::MultiThread =>
        {
            tokio::task::block_in_place(|| runtime.block_on(future))
        }
        _ => future.await,
    }
}
