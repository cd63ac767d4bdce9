//! The thread that writes behind.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::Table;
use super::disk::{Store, Written};
use super::file::Row;
use crate::backoff::Backoff;

/// What a crash may cost at most of what is not urgent, beside the writing itself: the control plane
/// sends it again.
const GATHER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct State {
    /// The latest of each row that is not on disk: bounded by the number of rows, however many
    /// changes there are.
    marked: HashMap<(Table, String), Option<Bytes>>,
    /// Counts marks.
    newest: u64,
    /// Somebody waits for the disk.
    urgent: bool,
    closing: bool,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Everything up to this mark is on disk.
    written: u64,
    /// Why the last try failed.
    failing: Option<String>,
    /// How often the rows that were written before went away.
    lost: u64,
}

/// What is marked, and up to where that is everything.
struct Work {
    marked: HashMap<(Table, String), Option<Bytes>>,
    newest: u64,
    closing: bool,
}

impl Writer {
    pub(super) fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let failing = (!store.is_open()).then(|| "it could not be opened at the start".to_owned());
        let (progress, _) = watch::channel(Progress { failing, ..Progress::default() });
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), progress });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("lkg".to_owned()).spawn(move || {
            of_thread.run(store);
            // Nothing that is marked from now on gets there.
            of_thread.progress.send_modify(|progress| progress.failing = Some("closed".to_owned()));
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn mark(&self, table: Table, key: String, value: Option<Bytes>) {
        let mut state = self.shared.lock();
        state.newest += 1;
        state.marked.insert((table, key), value);
        drop(state);
        self.shared.wake.notify_one();
    }

    pub(super) fn behind(&self) -> usize {
        self.shared.lock().marked.len()
    }

    pub(super) fn failing(&self) -> Option<String> {
        self.shared.progress.borrow().failing.clone()
    }

    /// Wakes when the rows that were written before are gone.
    pub(super) async fn lost(&self, seen: u64) -> u64 {
        let mut progress = self.shared.progress.subscribe();
        let lost = progress.wait_for(|progress| progress.lost > seen).await;
        let lost = lost.map(|progress| progress.lost);
        match lost {
            Ok(lost) => lost,
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) async fn flush(&self) -> bool {
        let newest = {
            let mut state = self.shared.lock();
            state.urgent = !state.marked.is_empty();
            state.newest
        };
        self.shared.wake.notify_one();
        let mut progress = self.shared.progress.subscribe();
        let done =
            progress.wait_for(|progress| progress.written >= newest || progress.failing.is_some());
        done.await.is_ok_and(|progress| progress.written >= newest)
    }

    pub(super) fn close(&self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes the last-known-good ended badly");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    // The state is whole after any panic of another holder: single assignments only.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut store: Box<dyn Store>) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let gauge = metrics::gauge!("imp_lkg_failing");
        gauge.set(if store.is_open() { 0.0 } else { 1.0 });
        while let Some(Work { marked, newest, closing }) = self.next(store.is_open()) {
            let batch: Vec<Row> = marked.into_iter().collect();
            let started = Instant::now();
            match store.write(&batch) {
                Ok(written) => {
                    metrics::histogram!("imp_lkg_write_seconds").record(started.elapsed());
                    gauge.set(0.0);
                    backoff.reset();
                    self.done(newest, written);
                }
                Err(why) => {
                    gauge.set(1.0);
                    self.failed(batch, why);
                    if closing || self.pause(backoff.next()) {
                        return;
                    }
                }
            }
        }
    }

    fn done(&self, newest: u64, written: Written) {
        let was_failing = self.progress.borrow().failing.is_some();
        if was_failing {
            tracing::warn!("the disk takes the last-known-good again");
        }
        self.progress.send_modify(|progress| {
            progress.written = newest;
            progress.failing = None;
            progress.lost += u64::from(written == Written::Empty);
        });
    }

    /// One loud line when it begins, not one for each try.
    fn failed(&self, batch: Vec<Row>, why: String) {
        if self.progress.borrow().failing.is_none() {
            tracing::error!(%why, "THE DISK DOES NOT TAKE THE LAST-KNOWN-GOOD: serving goes on from memory, and a restart would find an older state; it is tried again until it works (metric imp_lkg_failing)");
        }
        self.put_back(batch);
        self.progress.send_modify(|progress| progress.failing = Some(why));
    }

    /// What is marked, a moment after something is, unless somebody waits for it; nothing, when the
    /// store is to be opened again. None: closed, and nothing is left.
    fn next(&self, open: bool) -> Option<Work> {
        let idle = |state: &mut State| open && state.marked.is_empty() && !state.closing;
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        // One change marks several rows as Envoys answer; they go together, and not while it is
        // on its way to them.
        let gathering = |state: &mut State| !state.closing && !state.urgent;
        let gathered = self.wake.wait_timeout_while(state, GATHER, gathering);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        state.urgent = false;
        if state.marked.is_empty() && state.closing {
            return None;
        }
        let marked = std::mem::take(&mut state.marked);
        Some(Work { marked, newest: state.newest, closing: state.closing })
    }

    /// What was marked again meanwhile is newer.
    fn put_back(&self, rows: Vec<Row>) {
        let mut state = self.lock();
        for (key, value) in rows {
            state.marked.entry(key).or_insert(value);
        }
    }

    /// True when it should end.
    fn pause(&self, wait: Duration) -> bool {
        let open = |state: &mut State| !state.closing;
        let result = self.wake.wait_timeout_while(self.lock(), wait, open);
        result.unwrap_or_else(PoisonError::into_inner).0.closing
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Refuses while it is told to; the rows that it took, in order.
    #[derive(Clone, Default)]
    struct Failing {
        full: Arc<AtomicBool>,
        closed: Arc<AtomicBool>,
        empty: Arc<AtomicBool>,
        taken: Arc<Mutex<Vec<Row>>>,
        tries: Arc<Mutex<u32>>,
    }

    impl Store for Failing {
        fn write(&mut self, rows: &[Row]) -> Result<Written, String> {
            *self.tries.lock().unwrap() += 1;
            let full = self.full.load(Ordering::Acquire);
            self.closed.store(full, Ordering::Release);
            if full {
                return Err("no space left".to_owned());
            }
            self.taken.lock().unwrap().extend(rows.iter().cloned());
            let empty = self.empty.swap(false, Ordering::AcqRel);
            Ok(if empty { Written::Empty } else { Written::Same })
        }

        fn is_open(&self) -> bool {
            !self.closed.load(Ordering::Acquire)
        }
    }

    fn started(store: &Failing) -> Writer {
        Writer::start(Box::new(store.clone())).unwrap()
    }

    async fn until(what: &str, mut so: impl FnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !so() {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn mark(writer: &Writer, key: &str, value: &'static str) {
        writer.mark(Table::Facts, key.to_owned(), Some(Bytes::from_static(value.as_bytes())));
    }

    #[tokio::test]
    async fn what_a_full_disk_refused_is_written_when_there_is_space_again() {
        let store = Failing::default();
        let writer = started(&store);
        store.full.store(true, Ordering::Release);
        mark(&writer, "a", "1");
        assert!(!writer.flush().await);
        mark(&writer, "a", "2");
        mark(&writer, "b", "1");
        let tries = || *store.tries.lock().unwrap();
        until("more tries", || tries() >= 3).await;
        assert_eq!(writer.failing().as_deref(), Some("no space left"));
        assert_eq!(writer.behind(), 2, "one row each, the newest");
        store.full.store(false, Ordering::Release);
        until("written", || writer.behind() == 0 && writer.failing().is_none()).await;
        let mut taken = store.taken.lock().unwrap().clone();
        taken.sort();
        let values: Vec<_> = taken.iter().map(|(_, value)| value.clone().unwrap()).collect();
        assert_eq!(values, ["2", "1"]);
    }

    #[tokio::test]
    async fn a_store_that_was_not_open_at_the_start_is_opened_without_anything_to_write() {
        let store = Failing::default();
        store.full.store(true, Ordering::Release);
        store.closed.store(true, Ordering::Release);
        let writer = started(&store);
        assert!(writer.failing().is_some());
        store.full.store(false, Ordering::Release);
        until("open", || writer.failing().is_none()).await;
        assert!(store.taken.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn who_wrote_rows_learns_that_they_are_gone() {
        let store = Failing::default();
        let writer = started(&store);
        mark(&writer, "a", "1");
        assert!(writer.flush().await);
        store.empty.store(true, Ordering::Release);
        mark(&writer, "b", "1");
        assert_eq!(writer.lost(0).await, 1);
    }
}
