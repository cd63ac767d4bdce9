//! The thread that writes behind.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::Table;
use super::disk::{Disk, OpenError};
use crate::backoff::Backoff;

/// What a crash may cost at most, beside the writing itself: the control plane sends it again.
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
    closing: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Everything up to this mark is on disk.
    written: u64,
    /// The last try failed.
    failing: bool,
}

impl Writer {
    pub(super) fn start(disk: Disk) -> Result<Self, OpenError> {
        let (progress, _) = watch::channel(Progress::default());
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), progress });
        let path = disk.path().display().to_string();
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("lkg".to_owned())
            .spawn(move || {
                of_thread.run(&disk);
                // Nothing that is marked from now on gets there.
                of_thread.progress.send_modify(|progress| progress.failing = true);
            })
            .map_err(|why| OpenError::Unreadable { path, why: why.to_string() })?;
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

    pub(super) async fn flush(&self) -> bool {
        let newest = self.shared.lock().newest;
        let mut progress = self.shared.progress.subscribe();
        let done = progress.wait_for(|progress| progress.written >= newest || progress.failing);
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

    fn run(&self, disk: &Disk) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
        while let Some((rows, newest, closing)) = self.next() {
            let batch = rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            let started = std::time::Instant::now();
            match disk.write(batch) {
                Ok(()) => {
                    metrics::histogram!("imp_lkg_write_seconds").record(started.elapsed());
                    backoff.reset();
                    self.progress
                        .send_modify(|p| *p = Progress { written: newest, failing: false });
                }
                Err(error) => {
                    let path = disk.path().display();
                    tracing::error!(%path, %error, "cannot write the last-known-good; it is kept in memory and tried again");
                    self.put_back(rows);
                    self.progress.send_modify(|progress| progress.failing = true);
                    if closing || self.pause(backoff.next()) {
                        return;
                    }
                }
            }
        }
    }

    /// What is marked, a moment after something is; None: closed, and nothing is left.
    #[expect(clippy::type_complexity, reason = "one use, named by the line above")]
    fn next(&self) -> Option<(HashMap<(Table, String), Option<Bytes>>, u64, bool)> {
        let idle = |state: &mut State| state.marked.is_empty() && !state.closing;
        let mut state =
            self.wake.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
        // One change marks several rows as Envoys answer; they go together, and not while it is
        // on its way to them.
        let open = |state: &mut State| !state.closing;
        let gathered = self.wake.wait_timeout_while(state, GATHER, open);
        state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        if state.marked.is_empty() {
            return None;
        }
        Some((std::mem::take(&mut state.marked), state.newest, state.closing))
    }

    /// What was marked again meanwhile is newer.
    fn put_back(&self, rows: HashMap<(Table, String), Option<Bytes>>) {
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
