//! One open stream, shared by its two tasks: the [driver](super::driver) reads requests, the
//! [body](super::body) sends responses, independently. The pure part of the stream is in
//! [`Stream`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Instant;

use futures::task::AtomicWaker;
use tokio::sync::oneshot;
use tonic::Status;

use super::Shared;
use super::meters::Meters;
use super::outbound::Message;
use super::outgoing::Outgoing;
use super::route::Route;
use crate::resource_set::Place;
use crate::stream::{Answer, Outcome, Stream};
use crate::{Event, Peer, SentResource, StreamId, TypeUrl};

pub(super) struct Session {
    pub(super) shared: Arc<Shared>,
    pub(super) route: &'static Route,
    pub(super) id: StreamId,
    /// `node.id` and `node.cluster`, once they are known.
    node: OnceLock<(String, String)>,
    /// Locked for a whole step, so that the observer gets events in order. Locked before `state`.
    turn: Mutex<Turn>,
    /// Locked shortly, because status requests wait for it.
    state: Mutex<State>,
    place: OnceLock<Arc<Place>>,
    /// Tells the driver to stop, and why.
    stop: Mutex<Option<oneshot::Sender<End>>>,
    /// The body's waker, for events other than changes of the resource set.
    waker: AtomicWaker,
    /// Set when the body must poll although the resource set may not have changed.
    due: AtomicBool,
    /// How often the connection polled the body.
    polls: AtomicU64,
    /// Set when the client's right was revoked: nothing more is sent, not even the rest of a
    /// message (R91).
    cut: AtomicBool,
    /// Set when the body has the rest of a message that the connection has not polled.
    unfinished: AtomicBool,
}

/// The state that the two tasks use in turns.
#[derive(Default)]
struct Turn {
    /// The observer has seen the opening, but not the end.
    told: bool,
    meters: Vec<(TypeUrl, Meters)>,
}

enum State {
    /// The client has not sent its node, or waits for its slot.
    Opening,
    Open(Stream),
    Ended(Status),
}

/// Why a stream ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client left.
    Gone,
    /// The server ends it.
    Refused(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// What the body must do.
pub(super) enum Next {
    /// Write the data, and poll again at this time.
    Write(Option<Instant>),
    /// Wait to be woken, and poll again at this time.
    Wait(Option<Instant>),
    /// Send this status and nothing more.
    End(Status),
}

impl Session {
    /// A session, and the receiver that stops its driver.
    pub(super) fn new(
        shared: Arc<Shared>,
        route: &'static Route,
        id: StreamId,
    ) -> (Self, oneshot::Receiver<End>) {
        let (stop, stopped) = oneshot::channel();
        let session = Self {
            shared,
            route,
            id,
            node: OnceLock::new(),
            turn: Mutex::default(),
            state: Mutex::new(State::Opening),
            place: OnceLock::new(),
            stop: Mutex::new(Some(stop)),
            waker: AtomicWaker::new(),
            due: AtomicBool::new(true),
            polls: AtomicU64::new(0),
            unfinished: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        };
        (session, stopped)
    }

    /// Ends the stream; the first reason counts.
    pub(super) fn stop(&self, why: End) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stop) = stop {
            let _it_has_ended = stop.send(why);
        }
    }

    /// Ends the stream at once.
    pub(super) fn cut(&self, why: Status) {
        self.cut.store(true, Ordering::Release);
        self.stop(why.into());
    }

    /// Whether pending data must not be written.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// Begins to send responses. `first` handles the first request.
    pub(super) fn open(
        &self,
        mut stream: Stream,
        peer: &Peer<'_>,
        first: impl FnOnce(&mut Stream) -> Result<Outcome, Status>,
    ) -> Result<(), Status> {
        let mut turn = self.turn();
        turn.told = true;
        self.tell(Event::Opened { stream: self.id, peer });
        self.node.get_or_init(|| (peer.node_id.to_owned(), peer.node_cluster.to_owned()));
        self.place.get_or_init(|| stream.place().clone());
        let outcome = first(&mut stream)?;
        self.took(&mut turn, &outcome);
        *self.state() = State::Open(stream);
        self.look();
        Ok(())
    }

    /// Handles a request.
    pub(super) fn request(
        &self,
        step: impl FnOnce(&mut Stream) -> Result<Outcome, Status>,
    ) -> Result<(), Status> {
        let mut turn = self.turn();
        let mut state = self.state();
        let State::Open(stream) = &mut *state else { return Ok(()) };
        let outcome = step(stream)?;
        let has_work = stream.has_work() || stream.has_heartbeats();
        drop(state);
        self.took(&mut turn, &outcome);
        if has_work {
            self.look();
        }
        Ok(())
    }

    /// Sends again what was rejected.
    pub(super) fn retry(&self, type_url: &TypeUrl, name: &str) -> bool {
        let again = match &mut *self.state() {
            State::Open(stream) => stream.retry(type_url, name),
            State::Opening | State::Ended(_) => false,
        };
        if again {
            self.look();
        }
        again
    }

    /// Sends everything of a type again.
    pub(super) fn resend(&self, type_url: &TypeUrl) {
        if let State::Open(stream) = &mut *self.state() {
            stream.resend(type_url);
        }
        self.look();
    }

    fn took(&self, turn: &mut Turn, outcome: &Outcome) {
        if let (Some(type_url), false) = (&outcome.type_url, outcome.held.is_empty()) {
            self.tell(Event::Held { stream: self.id, type_url, resources: &outcome.held });
        }
        if let Some(answer) = &outcome.answer {
            self.answered(turn, answer);
        }
    }

    fn answered(&self, turn: &mut Turn, answer: &Answer) {
        let Answer { type_url, resources, sent_at, refusal } = answer;
        let stream = self.id;
        let meters = turn.meters(&self.shared, type_url);
        meters.answer_seconds.record(sent_at.elapsed());
        match refusal {
            None => {
                tracing::debug!(stream, %type_url, of = resources.len(), took = ?sent_at.elapsed(), "a response is acknowledged");
                meters.acks.increment(1);
                self.tell(Event::Acked { stream, type_url, resources });
            }
            Some(message) => {
                meters.nacks.increment(1);
                let first = resources.first().map(SentResource::name);
                tracing::warn!(stream, %type_url, of = resources.len(), ?first, message, "a client refused a response");
                self.tell(Event::Nacked { stream, type_url, resources, message });
            }
        }
    }

    /// Appends everything that should be sent now to `out`.
    pub(super) fn next(&self, out: &mut Outgoing) -> Next {
        let asked = self.due.swap(false, Ordering::AcqRel);
        if !asked && !self.place.get().is_some_and(|place| place.is_behind()) {
            return Next::Wait(None);
        }
        let mut turn = self.turn();
        let now = Instant::now();
        let mut state = self.state();
        let (responses, deadline) = match &mut *state {
            State::Ended(status) => return Next::End(status.clone()),
            State::Opening => return Next::Wait(None),
            State::Open(_) if self.is_cut() => return Next::Wait(None), // the driver ends it
            State::Open(stream) => (stream.poll(now), stream.deadline(now)),
        };
        drop(state);
        if responses.is_empty() {
            return Next::Wait(deadline);
        }
        for response in &responses {
            let message = Message::new(self.route.variant, response, &self.shared.config.types);
            let message = match message {
                Ok(message) => message,
                Err(status) => return Next::End(status),
            };
            let bytes = message.len();
            out.push(message);
            let meters = turn.meters(&self.shared, &response.type_url);
            meters.responses.increment(1);
            meters.sent_bytes.increment(bytes as u64);
            let (type_url, resources) = (&response.type_url, &response.sent[..]);
            tracing::debug!(stream = self.id, %type_url, of = resources.len(), bytes, "a response is sent");
            self.tell(Event::Sent { stream: self.id, type_url, resources, bytes });
        }
        Next::Write(deadline)
    }

    /// Stops sending after what is being written, with this status.
    pub(super) fn end(&self, status: Status) {
        let mut turn = self.turn();
        let before = std::mem::replace(&mut *self.state(), State::Ended(status));
        drop(before);
        self.look();
        if std::mem::take(&mut turn.told) {
            self.tell(Event::Closed { stream: self.id });
        }
    }

    /// Registers the body's task, to be woken when there is something to do.
    pub(super) fn register(&self, waker: &Waker, unfinished: bool) {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.unfinished.store(unfinished, Ordering::Relaxed);
        self.waker.register(waker);
        if let Some(place) = self.place.get() {
            place.register(waker);
        }
    }

    /// Makes the body poll again.
    pub(super) fn look(&self) {
        self.due.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// If there is something to write, how often the connection has polled so far. The same number
    /// some time later means that it does not read.
    pub(super) fn waits_for_reader(&self) -> Option<u64> {
        let waits = self.unfinished.load(Ordering::Relaxed)
            || self.due.load(Ordering::Acquire)
            || self.place.get().is_some_and(|place| place.is_behind());
        waits.then(|| self.polls.load(Ordering::Relaxed))
    }

    /// `node.id` and `node.cluster`; empty until the first message.
    pub(super) fn node(&self) -> (String, String) {
        self.node.get().cloned().unwrap_or_default()
    }

    /// Reads the stream's state, if it is open.
    pub(super) fn stream<T>(&self, look: impl FnOnce(&Stream) -> T) -> Option<T> {
        match &*self.state() {
            State::Open(stream) => Some(look(stream)),
            State::Opening | State::Ended(_) => None,
        }
    }

    fn tell(&self, event: Event<'_>) {
        self.shared.observer.event(event);
    }

    // A poisoned lock means that an embedding program's callback panicked in a turn. The stream
    // ends because of that (its tasks ensure it), and its end must still be reported.
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    fn meters(&mut self, shared: &Shared, type_url: &TypeUrl) -> &Meters {
        let known = self.meters.iter().position(|(of, _)| of == type_url);
        let index = known.unwrap_or_else(|| {
            self.meters.push((type_url.clone(), Meters::of(shared.label(type_url))));
            self.meters.len() - 1
        });
        &self.meters[index].1
    }
}
