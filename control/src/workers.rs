//! Work that takes time, away from the runtime's workers. A worker that computes looks at no socket
//! meanwhile, and may be the one that does it for all.

use std::pin::pin;

use imp_store::Store;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Less than so many bytes are worked on at once.
pub const LARGE: usize = 16 << 10;

/// Does work on so many bytes; when they are many, the worker's other tasks go to another thread
/// first.
pub fn off_workers<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) if bytes >= LARGE => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// The same with a future that computes between its awaits.
pub async fn polled_off_workers<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|context| off_workers(LARGE, || future.as_mut().poll(context))).await
}

/// Runs a transaction's statements. On SQLite each is a short answer of another thread; they run on this
/// thread to their end, and the worker's other tasks go to another one first. Each answer then wakes one
/// sleeping thread. A task of the runtime is woken by way of its queue and its poll of the sockets, and
/// wakes another worker to look for more: on two cores, as dear as the statement. PostgreSQL may take
/// long to answer, and nobody could give up waiting.
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
