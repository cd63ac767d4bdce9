//! The embedding program's side: who may see what, and what happened.

use tonic::Status;

use crate::stream::SentResource;
use crate::{ResourceSet, TypeUrl};

/// Names one stream of one server.
pub type StreamId = u64;

/// Who opened a stream.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    /// `node.id` of the first message.
    pub node_id: &'a str,
    /// `node.cluster` of the first message.
    pub node_cluster: &'a str,
    /// The client's version.
    pub user_agent_version: &'a str,
    /// Of the HTTP/2 request.
    pub headers: &'a http::HeaderMap,
    /// What layers in front of the server know of the request: an identity, a certificate.
    pub extensions: &'a http::Extensions,
}

/// Says who may open a stream and which resource set it sees.
pub trait Admission: Send + Sync + 'static {
    /// Before anything is read from the stream (R91): by the request's headers, and by what layers in
    /// front have put into its extensions.
    fn authorise(&self, _request: &http::request::Parts) -> Result<(), Status> {
        Ok(())
    }

    /// At the first message, when the node is known.
    fn admit(&self, peer: &Peer<'_>) -> Result<ResourceSet, Status>;

    /// How often this client has refused something before, on other streams. What is not 0 makes the
    /// bytes of types with [`crate::TypeRules::restamp`] differ from those that it refused.
    fn attempt(&self, _peer: &Peer<'_>) -> u32 {
        0
    }

    /// Completes when the stream of this peer must end (a revoked identity). Never, by default.
    fn revoked(&self, _peer: &Peer<'_>) -> Option<tokio_util::sync::CancellationToken> {
        None
    }
}

/// What happened on a stream.
#[derive(Debug)]
pub enum Event<'a> {
    /// A client was admitted.
    Opened {
        /// Which stream.
        stream: StreamId,
        /// Who.
        peer: &'a Peer<'a>,
    },
    /// A reconnecting client says that it holds these, in the versions of its resource set: they are not sent
    /// again, so no [`Event::Acked`] will name them. Follows [`Event::Opened`], at most once per type.
    Held {
        /// Which stream.
        stream: StreamId,
        /// Of which type.
        type_url: &'a TypeUrl,
        /// What it holds, never empty; what it holds besides is replaced or removed by responses.
        resources: &'a [SentResource],
    },
    /// A response went out.
    Sent {
        /// Which stream.
        stream: StreamId,
        /// Of which type.
        type_url: &'a TypeUrl,
        /// What was in it.
        resources: &'a [SentResource],
        /// Its size.
        bytes: usize,
    },
    /// A response was accepted.
    Acked {
        /// Which stream.
        stream: StreamId,
        /// Of which type.
        type_url: &'a TypeUrl,
        /// What was in it.
        resources: &'a [SentResource],
    },
    /// A response was refused.
    Nacked {
        /// Which stream.
        stream: StreamId,
        /// Of which type.
        type_url: &'a TypeUrl,
        /// What was in it, without removals. More than one: the culprit is not known yet, they follow
        /// in smaller groups until it is refused alone. None: a heartbeat, which had nothing new.
        resources: &'a [SentResource],
        /// The client's words.
        message: &'a str,
    },
    /// The stream ended.
    Closed {
        /// Which stream.
        stream: StreamId,
    },
}

/// Is told what happens; must not block.
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
