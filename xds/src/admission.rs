//! The embedding program's side: admits clients and observes streams.

use tonic::Status;

use crate::stream::SentResource;
use crate::{ResourceSet, TypeUrl};

/// Identifies a stream of a server.
pub type StreamId = u64;

/// The client that opened a stream.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// `node.id` of the first message.
    pub node_id: &'a str,
    /// `node.cluster` of the first message.
    pub node_cluster: &'a str,
    /// The client's version.
    pub user_agent_version: &'a str,
    /// The headers of the HTTP/2 request.
    pub headers: &'a http::HeaderMap,
    /// The extensions that earlier layers added to the request: an identity, a certificate.
    pub extensions: &'a http::Extensions,
    /// The type of its stream; `None` on the aggregated one.
    pub type_url: Option<&'static str>,
}

/// Decides which clients may open a stream and which resource set they see.
pub trait Admission: Send + Sync + 'static {
    /// Called before anything is read from the stream (R91), with the request's headers and the
    /// extensions that earlier layers added.
    fn authorise(&self, _request: &http::request::Parts) -> Result<(), Status> {
        Ok(())
    }

    /// Called with the first message, when the node is known.
    fn admit(&self, peer: &Peer<'_>) -> Result<ResourceSet, Status>;

    /// How often this client has rejected something before, on other streams. A value other than 0
    /// makes the bytes of types with [`crate::TypeRules::restamp`] differ from those that it
    /// rejected.
    fn attempt(&self, _peer: &Peer<'_>) -> u32 {
        0
    }

    /// A future that completes when this peer's stream must end (a revoked identity). By default it
    /// never does.
    fn revoked(&self, _peer: &Peer<'_>) -> Option<tokio_util::sync::CancellationToken> {
        None
    }
}

/// An event on a stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client was admitted.
    Opened { stream: StreamId, peer: &'a Peer<'a> },
    /// A reconnecting client has these resources in the current versions: they are not sent again,
    /// so no [`Event::Acked`] will name them. Follows [`Event::Opened`], at most once per type.
    Held {
        stream: StreamId,
        type_url: &'a TypeUrl,
        /// Its current resources, never empty; its outdated ones are replaced or removed by
        /// responses.
        resources: &'a [SentResource],
    },
    /// A response was sent.
    Sent {
        stream: StreamId,
        type_url: &'a TypeUrl,
        /// The content of the response.
        resources: &'a [SentResource],
        /// The size of the response.
        bytes: usize,
    },
    /// The client acknowledged a response (ACK).
    Acked {
        stream: StreamId,
        type_url: &'a TypeUrl,
        /// The content of the response.
        resources: &'a [SentResource],
    },
    /// The client rejected a response (NACK).
    Nacked {
        stream: StreamId,
        type_url: &'a TypeUrl,
        /// The content of the response, without removals. If more than one, the cause is not known
        /// yet; they are sent again in smaller groups until the wrong one is rejected alone. Empty
        /// for a heartbeat, which had no new content.
        resources: &'a [SentResource],
        /// The client's error message.
        message: &'a str,
    },
    /// The stream ended.
    Closed { stream: StreamId },
}

/// Observes events; must not block.
pub trait Observer: Send + Sync + 'static {
    /// Called on the stream's tasks, one at a time and in order.
    fn event(&self, event: Event<'_>);
}

/// Ignores everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn event(&self, _: Event<'_>) {}
}
