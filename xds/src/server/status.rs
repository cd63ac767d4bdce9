//! What every stream is doing, for people and metrics (R92).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
    /// For how long a response has not been answered.
    pub unanswered_for: Option<Duration>,
    /// Names and versions that the client refused.
    pub refused: Vec<(Arc<str>, Arc<str>)>,
}

impl TypeStatus {
    pub(super) fn of(t: &TypeStream) -> Self {
        let (wildcard, names) = t.subscribed();
        let counts = t.counts();
        Self {
            type_url: t.rules().type_url.clone(),
            wildcard,
            names,
            sent: counts.sent,
            acked: counts.acked,
            nacked: counts.nacked,
            pending: t.pending(),
            unanswered_for: t.in_flight_since().map(|since| since.elapsed()),
            refused: t.refused().map(|(n, v)| (n.clone(), v.clone())).collect(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.wildcard && self.names == 0 && self.sent == 0
    }
}

/// The open streams of a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<StreamId, StreamStatus>>>,
}

/// A stream's place in the list; leaves it when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    stream: StreamId,
    streams: Streams,
}

impl Streams {
    pub(super) fn open(&self, stream: StreamId, max: usize) -> Result<Slot, Status> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= max {
            return Err(Status::resource_exhausted("too many streams; try again later"));
        }
        open.insert(stream, StreamStatus { stream, ..StreamStatus::default() });
        metrics::gauge!("xds_streams").set(open.len() as f64);
        Ok(Slot { stream, streams: self.clone() })
    }

    pub(super) fn list(&self) -> Vec<StreamStatus> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

impl Slot {
    pub(super) fn stream(&self) -> StreamId {
        self.stream
    }

    pub(super) fn update(&self, update: impl FnOnce(&mut StreamStatus)) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get_mut(&self.stream).map(update);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.stream);
        metrics::gauge!("xds_streams").set(open.len() as f64);
    }
}
