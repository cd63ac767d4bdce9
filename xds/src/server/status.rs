//! What every stream is doing, for people and metrics (R92).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;

use crate::stream::TypeStream;
use crate::{StreamId, TypeUrl};

/// One open stream.
#[derive(Clone, Debug, Default)]
pub struct StreamStatus {
    /// Which stream.
    pub stream: StreamId,
    /// Empty until the first message.
    pub node_id: String,
    /// Empty until the first message.
    pub node_cluster: String,
    /// Each type that the client subscribed to, or that waits for it.
    pub types: Vec<TypeStatus>,
}

/// One type of a stream.
#[derive(Clone, Debug)]
pub struct TypeStatus {
    /// Which type.
    pub type_url: TypeUrl,
    /// Everything is wanted.
    pub wildcard: bool,
    /// So many names are wanted.
    pub names: usize,
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted.
    pub acked: u64,
    /// Responses refused.
    pub nacked: u64,
    /// Changes that wait.
    pub pending: usize,
    /// For how long something has waited.
    pub pending_for: Option<Duration>,
    /// For how long a response has not been answered.
    pub unanswered_for: Option<Duration>,
    /// Names and versions that the client refused.
    pub refused: Vec<(Arc<str>, Arc<str>)>,
    /// What it said when it last refused a response.
    pub last_refusal: Option<Arc<str>>,
}

impl TypeStatus {
    fn of(t: &TypeStream, now: Instant) -> Self {
        let (wildcard, names) = t.subscribed();
        let counts = t.counts();
        let since = |start: Option<Instant>| start.map(|s| now.saturating_duration_since(s));
        Self {
            type_url: t.rules().type_url.clone(),
            wildcard,
            names,
            sent: counts.sent,
            acked: counts.acked,
            nacked: counts.nacked,
            pending: t.pending(),
            pending_for: since(t.pending_since()),
            unanswered_for: since(t.in_flight_since()),
            refused: t.refused().map(|(n, v)| (n.clone(), v.clone())).collect(),
            last_refusal: t.last_refusal().cloned(),
        }
    }

    fn is_idle(&self) -> bool {
        !self.wildcard && self.names == 0 && self.sent == 0
    }
}

/// The open streams of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<StreamId, Arc<Mutex<Entry>>>>>,
}

#[derive(Debug, Default)]
struct Entry {
    status: StreamStatus,
    noted_at: Option<Instant>,
}

impl Entry {
    /// As it was noted, but older by now.
    fn now(&self) -> StreamStatus {
        let mut status = self.status.clone();
        let age = self.noted_at.map(|at| at.elapsed()).unwrap_or_default();
        for of_type in &mut status.types {
            of_type.pending_for = of_type.pending_for.map(|time| time + age);
            of_type.unanswered_for = of_type.unanswered_for.map(|time| time + age);
        }
        status
    }
}

/// A stream's place in the list; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    stream: StreamId,
    entry: Arc<Mutex<Entry>>,
    streams: Streams,
}

impl Streams {
    pub(super) fn open(&self, stream: StreamId, max: usize) -> Result<Slot, Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= max {
            return Err(Status::resource_exhausted("too many streams; try again later"));
        }
        let status = StreamStatus { stream, ..StreamStatus::default() };
        let entry = Arc::new(Mutex::new(Entry { status, noted_at: None }));
        open.insert(stream, entry.clone());
        metrics::gauge!("xds_streams").set(open.len() as f64);
        Ok(Slot { stream, entry, streams: self.clone() })
    }

    pub(super) fn list(&self) -> Vec<StreamStatus> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<_> = open.values().cloned().collect();
        drop(open);
        entries.iter().map(|e| e.lock().unwrap_or_else(PoisonError::into_inner).now()).collect()
    }
}

impl Slot {
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn name(&self, node_id: &str, node_cluster: &str) {
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        entry.status.node_id = node_id.to_owned();
        entry.status.node_cluster = node_cluster.to_owned();
    }

    pub(super) fn note(&self, types: &[TypeStream], now: Instant) {
        let types = types.iter().map(|t| TypeStatus::of(t, now)).filter(|t| !t.is_idle()).collect();
        let mut entry = self.entry.lock().unwrap_or_else(PoisonError::into_inner);
        entry.status.types = types;
        entry.noted_at = Some(now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.stream);
        metrics::gauge!("xds_streams").set(open.len() as f64);
    }
}
