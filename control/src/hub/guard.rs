//! In front of the delta stream: identity is looked up in the database before the stream opens, and
//! the stream ends when the program stops.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use imp_xds::AdsServer;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use super::gate::Gate;

/// The delta service, guarded.
#[derive(Clone)]
pub struct Guard {
    pub ads: AdsServer,
    pub gate: Arc<Gate>,
    pub stop: CancellationToken,
}

impl NamedService for Guard {
    const NAME: &'static str = AdsServer::NAME;
}

impl tower::Service<http::Request<Body>> for Guard {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Self { mut ads, gate, stop } = self.clone();
        Box::pin(async move {
            if let Err(status) = gate.enter(request.headers()).await {
                return Ok(status.into_http());
            }
            let response = ads.call(request).await?;
            Ok(response.map(|body| Body::new(Until::new(body, stop))))
        })
    }
}

/// A response's body that ends early when the program stops. The peer reads UNAVAILABLE, and tries
/// again elsewhere or later.
struct Until {
    body: Body,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Until {
    fn new(body: Body, stop: CancellationToken) -> Self {
        Self { body, stop: Box::pin(stop.cancelled_owned()), ended: false }
    }
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.stop.as_mut().poll(context).is_ready() {
            self.ended = true;
            let mut trailers = http::HeaderMap::new();
            stopping().add_header(&mut trailers)?;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

pub(super) fn stopping() -> Status {
    Status::unavailable("the control plane is stopping; try again later")
}
