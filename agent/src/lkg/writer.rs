//! The thread that writes in the background.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::Table;
use super::disk::{Store, Written};
use super::lane::{Lane, Portion};
use crate::backoff::Backoff;

/// The longest delay of rows that are not urgent. A crash loses them, and the control plane sends
/// them again.
const GATHER: Duration = Duration::from_millis(50);

/// The same of access rows: callers use a new key at once, and it would be refused until the control
/// plane has sent it again.
const GATHER_ACCESS: Duration = Duration::from_millis(5);

/// The size of one transaction, unless one row is larger. Whoever waits for the disk also waits for
/// the transaction in progress.
const PORTION: usize = 1 << 20;

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
    /// Written first: access rows are small, and a revocation is acknowledged when it is on disk.
    access: Lane,
    /// In the order in which rows were first marked. A row that is marked again keeps its place, so
    /// an acknowledgement may be written before its revision: readers compare revisions.
    rest: Lane,
    /// Whether the last portion was of `access`.
    access_last: bool,
    closing: bool,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    /// Everything up to these places of the lanes is on disk.
    access: u64,
    rest: u64,
    /// Why the last attempt failed.
    failing: Option<String>,
    /// How often previously written rows were lost.
    lost: u64,
}

/// Whether nobody waits for the disk.
fn is_gathering(state: &State) -> bool {
    !state.closing && !state.is_awaited()
}

/// What to write next.
enum Work {
    Access(Portion),
    Rest(Portion),
}

impl Work {
    fn portion(&self) -> &Portion {
        match self {
            Self::Access(portion) | Self::Rest(portion) => portion,
        }
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.access.is_empty() && self.rest.is_empty()
    }

    fn is_awaited(&self) -> bool {
        self.access.is_awaited() || self.rest.is_awaited()
    }

    fn take(&mut self) -> Work {
        // Alternate, so that a tenant who issues keys all the time cannot keep publishes from the
        // disk.
        let rest = self.access.is_empty() || (self.access_last && !self.rest.is_empty());
        self.access_last = !rest;
        if rest {
            Work::Rest(self.rest.take(PORTION))
        } else {
            Work::Access(self.access.take(PORTION))
        }
    }
}

impl Writer {
    pub(super) fn start(store: Box<dyn Store>) -> std::io::Result<Self> {
        let failing = (!store.is_open()).then(|| "it could not be opened at the start".to_owned());
        let (progress, _) = watch::channel(Progress { failing, ..Progress::default() });
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), progress });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("lkg".to_owned()).spawn(move || {
            of_thread.run(store);
            // Rows marked from now on are not written.
            of_thread.progress.send_modify(|progress| progress.failing = Some("closed".to_owned()));
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// `access`: whether it is an access row.
    pub(super) fn mark(&self, access: bool, table: Table, key: String, value: Option<Bytes>) {
        let mut state = self.shared.lock();
        let lane = if access { &mut state.access } else { &mut state.rest };
        let is_first = lane.is_empty();
        lane.mark((table, key), value);
        drop(state);
        // Later rows are gathered: waking it for each would cost more than they do.
        if is_first {
            self.shared.wake.notify_one();
        }
    }

    pub(super) fn behind(&self) -> usize {
        let state = self.shared.lock();
        state.access.len() + state.rest.len()
    }

    pub(super) fn failing(&self) -> Option<String> {
        self.shared.progress.borrow().failing.clone()
    }

    /// Waits until previously written rows were lost.
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
        let (access, rest) = {
            let mut state = self.shared.lock();
            (state.access.await_all(), state.rest.await_all())
        };
        self.reach(move |progress| progress.access >= access && progress.rest >= rest).await
    }

    pub(super) async fn flush_access(&self) -> bool {
        let access = self.shared.lock().access.await_all();
        self.reach(move |progress| progress.access >= access).await
    }

    async fn reach(&self, reached: impl Fn(&Progress) -> bool) -> bool {
        self.shared.wake.notify_one();
        let mut progress = self.shared.progress.subscribe();
        let done = progress.wait_for(|progress| reached(progress) || progress.failing.is_some());
        done.await.is_ok_and(|progress| reached(&progress))
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
    // The state is consistent after a panic of another holder, because changes are single
    // assignments.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut store: Box<dyn Store>) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5));
        let gauge = metrics::gauge!("imp_lkg_failing");
        gauge.set(if store.is_open() { 0.0 } else { 1.0 });
        while let Some((work, closing)) = self.next(store.is_open()) {
            let started = Instant::now();
            match store.write(&work.portion().rows) {
                Ok(written) => {
                    metrics::histogram!("imp_lkg_write_seconds").record(started.elapsed());
                    gauge.set(0.0);
                    backoff.reset();
                    self.done(&work, written);
                }
                Err(why) => {
                    gauge.set(1.0);
                    self.failed(work, why);
                    if closing || self.pause(backoff.next()) {
                        return;
                    }
                }
            }
        }
    }

    fn done(&self, work: &Work, written: Written) {
        let was_failing = self.progress.borrow().failing.is_some();
        if was_failing {
            tracing::warn!("the disk takes the last-known-good again");
        }
        self.progress.send_modify(|progress| {
            match work {
                Work::Access(portion) => progress.access = portion.up_to,
                Work::Rest(portion) => progress.rest = portion.up_to,
            }
            progress.failing = None;
            progress.lost += u64::from(written == Written::Empty);
        });
    }

    /// Logs once when failures begin, not on every attempt.
    fn failed(&self, work: Work, why: String) {
        if self.progress.borrow().failing.is_none() {
            tracing::error!(%why, "THE LAST-KNOWN-GOOD CANNOT BE WRITTEN: serving continues from memory, and a restart would restore an older state; retrying until it works (metric imp_lkg_failing)");
        }
        let mut state = self.lock();
        match work {
            Work::Access(portion) => state.access.put_back(portion),
            Work::Rest(portion) => state.rest.put_back(portion),
        }
        drop(state);
        self.progress.send_modify(|progress| progress.failing = Some(why));
    }

    /// Returns a part of the marked rows, after a short delay unless somebody waits for them;
    /// nothing if the store is to be reopened; `None` if closed and nothing is left.
    fn next(&self, open: bool) -> Option<(Work, bool)> {
        let idle = |state: &mut State| open && state.is_empty() && !state.closing;
        let state = self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        // Envoys' answers to one change mark several rows; they are written together, and not while
        // the change is on its way.
        let rest = |state: &mut State| state.access.is_empty() && is_gathering(state);
        let gathered = self.wake.wait_timeout_while(state, GATHER, rest);
        let state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        let access = |state: &mut State| !state.access.is_empty() && is_gathering(state);
        let gathered = self.wake.wait_timeout_while(state, GATHER_ACCESS, access);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        if state.is_empty() && state.closing {
            return None;
        }
        Some((state.take(), state.closing))
    }

    /// Returns true if the thread should end.
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
    use crate::lkg::file::Row;

    /// A store that refuses writes on demand, and records the rows it accepted, in order.
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
        let value = Bytes::from_static(value.as_bytes());
        writer.mark(false, Table::Facts, key.to_owned(), Some(value));
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
    #[tokio::test]
    async fn who_may_call_does_not_wait_for_large_rows() {
        let store = Failing::default();
        let writer = started(&store);
        for name in ["a", "b", "c", "d"] {
            let large = Bytes::from(vec![0; PORTION]);
            writer.mark(false, Table::Resources, name.to_owned(), Some(large));
        }
        writer.mark(true, Table::Resources, "key".to_owned(), None);
        assert!(writer.flush_access().await);
        let keys = || {
            let taken = store.taken.lock().unwrap();
            taken.iter().map(|((_, key), _)| key.clone()).collect::<Vec<_>>()
        };
        let place = keys().iter().position(|key| key == "key");
        assert!(place.is_some_and(|place| place <= 1), "behind {place:?} large rows");
        assert!(writer.flush().await);
        let rest: Vec<_> = keys().into_iter().filter(|key| key != "key").collect();
        assert_eq!(rest, ["a", "b", "c", "d"]);
    }
    #[test]
    fn the_lanes_take_turns() {
        let mut state = State::default();
        let mut is_access = Vec::new();
        state.rest.mark((Table::Resources, "a".to_owned()), Some(Bytes::from(vec![0; PORTION])));
        state.rest.mark((Table::Resources, "b".to_owned()), None);
        for key in 0..4 {
            // One more all the time.
            state.access.mark((Table::Resources, format!("key {key}")), None);
            is_access.push(matches!(state.take(), Work::Access(_)));
        }
        assert_eq!(is_access, [true, false, true, false]);
        assert!(state.rest.is_empty());
    }
}
