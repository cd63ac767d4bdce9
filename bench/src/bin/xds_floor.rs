//! The floor of `bench-xds`: the cost of gRPC itself. A bare tonic service behind the same line
//! protocol that sends everything to everyone at first, then the bytes of each change, encoded
//! once. It keeps no state and checks no answer, so it would be wrong in any other situation.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::{Buf as _, BufMut as _, Bytes};
use imp_bench::xds::{Kind, lines, resource};
use imp_xds::wire::{Any, DeltaDiscoveryResponse, Resource};
use prost::Message as _;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
struct Floor {
    everything: Bytes,
    changes: Arc<broadcast::Sender<Bytes>>,
}

fn main() -> Result<()> {
    let (kind, count) = lines::arguments()?;
    let all: Vec<_> = (0..count).map(|index| (index, 0)).collect();
    let changes = Arc::new(broadcast::channel(1_024).0);
    let floor = Floor { everything: response(kind, &all), changes: changes.clone() };
    let runtime = tokio::runtime::Runtime::new()?;
    let port = runtime.block_on(serve(floor))?;
    lines::follow(port, count, |resources| {
        let _nobody_listens = changes.send(response(kind, resources));
    })
}

async fn serve(floor: Floor) -> Result<u16> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(Server::builder().add_service(floor).serve_with_incoming(incoming));
    Ok(port)
}

fn response(kind: Kind, resources: &[(u64, u64)]) -> Bytes {
    let resources = resources.iter().map(|&(index, generation)| {
        let index = usize::try_from(index).unwrap_or_default();
        let (name, value) = resource(kind, index, generation);
        let any = Any { type_url: kind.type_url().to_owned(), value: value.into() };
        let version = generation.to_string();
        Resource { name, version, resource: Some(any), ..Resource::default() }
    });
    let response = DeltaDiscoveryResponse {
        type_url: kind.type_url().to_owned(),
        nonce: "n".to_owned(),
        resources: resources.collect(),
        ..Default::default()
    };
    response.encode_to_vec().into()
}

impl NamedService for Floor {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl tower::Service<http::Request<Body>> for Floor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = futures::future::BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let floor = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw).streaming(floor, request).await) })
    }
}

impl StreamingService<()> for Floor {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<()>>) -> Self::Future {
        let (sender, responses) = mpsc::channel(2);
        tokio::spawn(self.clone().push(request.into_inner(), sender));
        ready(Ok(Response::new(ReceiverStream::new(responses))))
    }
}

impl Floor {
    /// Sends until the client leaves.
    async fn push(self, mut inbound: Streaming<()>, sender: mpsc::Sender<Result<Bytes, Status>>) {
        let mut changes = self.changes.subscribe();
        if !matches!(inbound.message().await, Ok(Some(()))) {
            return;
        }
        let mut next = self.everything;
        while sender.send(Ok(next)).await.is_ok() {
            next = loop {
                tokio::select! {
                    change = changes.recv() => match change {
                        Ok(change) => break change,
                        Err(_) => return,
                    },
                    answer = inbound.message() => if !matches!(answer, Ok(Some(()))) {
                        return;
                    },
                }
            };
        }
    }
}

/// A codec that writes bytes unchanged and ignores requests.
#[derive(Clone, Copy)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, bytes: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(bytes);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buffer.advance(buffer.remaining());
        Ok(Some(()))
    }
}
