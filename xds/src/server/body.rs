//! A stream's responses, as the body of the HTTP answer. It is polled when the connection has
//! space, and reads the resource set at that time, so that even a slow client gets the newest
//! content.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::HeaderMap;
use tokio::time::Sleep;
use tonic::Status;

use super::outgoing::Outgoing;
use super::session::{self, Next, Session};

pub(super) struct Body {
    session: Arc<Session>,
    outgoing: Outgoing,
    /// Wakes the body when something is due without an event.
    timer: Option<Pin<Box<Sleep>>>,
    end: End,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.session.stop(session::End::Gone);
    }
}

enum End {
    NotYet,
    /// The status to send after the data being written.
    Told(Status),
    Over,
}

impl Body {
    pub(super) fn new(session: Arc<Session>) -> Self {
        Self { session, outgoing: Outgoing::default(), timer: None, end: End::NotYet }
    }

    /// Polls until there is something to write or a status to send.
    fn look(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            // Even if a callback of the embedding program panics, the client sees an end.
            let next = AssertUnwindSafe(|| self.session.next(&mut self.outgoing));
            let next = std::panic::catch_unwind(next);
            match next.unwrap_or_else(|_| Next::End(Status::internal("the stream failed"))) {
                Next::Write(deadline) => {
                    self.set(deadline);
                    return Poll::Ready(());
                }
                Next::End(status) => {
                    self.end = End::Told(status);
                    return Poll::Ready(());
                }
                Next::Wait(deadline) => self.set(deadline),
            }
            let Some(timer) = &mut self.timer else { return Poll::Pending };
            ready!(timer.as_mut().poll(context));
            self.timer = None;
            self.session.look();
        }
    }

    /// Sets the timer, which may fire early.
    fn set(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline.map(tokio::time::Instant::from_std) else { return };
        match &mut self.timer {
            Some(timer) if timer.deadline() > deadline => timer.as_mut().reset(deadline),
            Some(_) => {}
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    fn trailers(&mut self) -> Option<http_body::Frame<Bytes>> {
        let End::Told(status) = std::mem::replace(&mut self.end, End::Over) else { return None };
        let mut trailers = HeaderMap::with_capacity(3);
        // A status that does not fit a header cannot be sent.
        let _unsayable = status.add_header(&mut trailers);
        Some(http_body::Frame::trailers(trailers))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        if self.session.is_cut() {
            self.outgoing = Outgoing::default();
        }
        if self.outgoing.is_empty() && matches!(self.end, End::NotYet) {
            self.session.register(context.waker(), false);
            if self.look(context).is_pending() {
                return Poll::Pending;
            }
        }
        if self.outgoing.is_empty() {
            return Poll::Ready(self.trailers().map(Ok));
        }
        let chunk = self.outgoing.chunk();
        self.session.register(context.waker(), !self.outgoing.is_empty());
        Poll::Ready(Some(Ok(http_body::Frame::data(chunk))))
    }
}
