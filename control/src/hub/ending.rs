//! The body of a stream's answer, which ends early when the program stops or another stream of the
//! same agent replaces it. The status tells the peer why; it reconnects elsewhere or later.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

use super::presence::Present;

pub(super) struct Ending {
    body: Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
    /// Dropped with the body.
    _present: Present,
}

impl Ending {
    pub(super) fn new(body: Body, stop: CancellationToken, present: Present) -> Self {
        Self {
            body,
            stop: Box::pin(stop.cancelled_owned()),
            displaced: Box::pin(present.displaced.clone().cancelled_owned()),
            ended: false,
            _present: present,
        }
    }
}

impl http_body::Body for Ending {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let end = if self.stop.as_mut().poll(context).is_ready() {
            stopping()
        } else if self.displaced.as_mut().poll(context).is_ready() {
            Status::aborted("the agent opened another stream")
        } else {
            return Pin::new(&mut self.body).poll_frame(context);
        };
        self.ended = true;
        let mut trailers = http::HeaderMap::new();
        end.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

pub(super) fn stopping() -> Status {
    Status::unavailable("the control plane is stopping; try again later")
}
