//! Counts the bytes of messages while they are read, because unfinished messages use memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use super::caller::{Caller, Room};

/// A service for authenticated callers, with bounded messages.
#[derive(Clone, Debug)]
pub struct Bounded<S>(pub S);

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Service<http::Request<Body>>> Service<http::Request<Body>> for Bounded<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        let counted = |body| Body::new(Counted { body, caller, rooms: Vec::new() });
        self.0.call(request.map(counted))
    }
}

/// A body whose bytes count until it is dropped.
struct Counted {
    body: Body,
    caller: Option<Caller>,
    rooms: Vec<Room>,
}

impl Counted {
    fn count(&mut self, bytes: usize) -> Result<(), Status> {
        // The service refuses an unauthenticated caller; nothing of its message is kept.
        let stranger = || Status::unauthenticated("this connection has not said who it is");
        let room = self.caller.as_ref().ok_or_else(stranger)?.room(bytes)?;
        self.rooms.push(room);
        Ok(())
    }
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
            && let Err(status) = self.count(data.len())
        {
            return Poll::Ready(Some(Err(status)));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
