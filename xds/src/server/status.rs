//! The state of every stream, for display and metrics (R92).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::Status;

use super::session::Session;
use crate::stream::TypeStream;
use crate::{StreamId, TypeUrl};

/// One open stream.
#[derive(Clone, Debug, Default)]
pub struct StreamStatus {
    pub stream: StreamId,
    /// Empty until the first message.
    pub node_id: String,
    /// Empty until the first message.
    pub node_cluster: String,
    /// Each type that the client subscribed to.
    pub types: Vec<TypeStatus>,
}

/// One type of a stream.
#[derive(Clone, Debug)]
pub struct TypeStatus {
    pub type_url: TypeUrl,
    /// Whether it subscribes to everything.
    pub wildcard: bool,
    /// The number of subscribed names.
    pub names: usize,
    /// Responses sent.
    pub sent: u64,
    /// Responses accepted.
    pub acked: u64,
    /// Responses refused.
    pub nacked: u64,
    /// The number of pending changes.
    pub pending: usize,
    /// How long something has been pending.
    pub pending_for: Option<Duration>,
    /// How long a response has been unanswered.
    pub unanswered_for: Option<Duration>,
    /// Names and versions that the client rejected.
    pub refused: Vec<(Arc<str>, Arc<str>)>,
    /// The error message of the last rejection.
    pub last_refusal: Option<Arc<str>>,
}

impl StreamStatus {
    fn of(session: &Session) -> Self {
        let now = Instant::now();
        let (node_id, node_cluster) = session.node();
        let types = session.stream(|stream| {
            let types = stream.types().iter().map(|t| TypeStatus::of(t, now));
            types.filter(|t| !t.is_idle()).collect()
        });
        Self { stream: session.id, node_id, node_cluster, types: types.unwrap_or_default() }
    }
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
#[derive(Clone, Default)]
pub(crate) struct Streams {
    open: Arc<Mutex<HashMap<StreamId, Arc<Session>>>>,
}

/// A stream's slot in the list; removed on drop.
pub(crate) struct Slot {
    stream: StreamId,
    streams: Streams,
}

impl Streams {
    pub(super) fn open(&self, session: &Arc<Session>, max: usize) -> Result<Slot, Status> {
        let mut open = self.lock();
        if open.len() >= max {
            return Err(Status::resource_exhausted("too many streams; try again later"));
        }
        open.insert(session.id, session.clone());
        metrics::gauge!("xds_streams").set(open.len() as f64);
        Ok(Slot { stream: session.id, streams: self.clone() })
    }

    /// Ends them all, each with this status.
    pub(super) fn stop(&self, status: &Status) {
        for session in self.sessions() {
            session.stop(status.clone().into());
        }
    }

    pub(super) fn get(&self, stream: StreamId) -> Option<Arc<Session>> {
        self.lock().get(&stream).cloned()
    }

    pub(super) fn list(&self) -> Vec<StreamStatus> {
        self.sessions().iter().map(|session| StreamStatus::of(session)).collect()
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StreamId, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.remove(&self.stream);
        metrics::gauge!("xds_streams").set(open.len() as f64);
    }
}
