//! The fleet's ears on the xDS server: who may come in, and what each Envoy said.

use std::sync::Arc;

use imp_xds::{Admission, Event, Observer, Peer, SentResource, StreamId, World};
use tokio::sync::mpsc;
use tonic::Status;

use super::worlds::{Worlds, envoy_type};
use crate::port::Caller;

/// What an Envoy did, in the order in which it did it.
#[derive(Debug)]
pub(super) enum Happened {
    Came {
        stream: StreamId,
        id: String,
        gateway: Option<String>,
        version: String,
        at_ms: i64,
    },
    /// It has these versions.
    Has {
        stream: StreamId,
        type_url: &'static str,
        resources: Vec<SentResource>,
    },
    /// It refused this one.
    Refused {
        stream: StreamId,
        type_url: &'static str,
        name: Arc<str>,
        version: Arc<str>,
        words: String,
    },
    Left {
        stream: StreamId,
    },
}

/// Passes events on to the fleet's task. The queue has no bound because a stream must never wait for
/// it; it holds at most one answer per type and stream beyond what the task has seen.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) worlds: Worlds,
    pub(super) events: mpsc::UnboundedSender<Happened>,
}

/// `node.cluster` names a gateway by its id; anything else means all gateways.
pub(super) fn gateway_of(node_cluster: &str) -> Option<String> {
    let id = uuid::Uuid::try_parse(node_cluster).ok()?;
    Some(id.hyphenated().to_string())
}

impl Admission for Ears {
    fn admit(&self, peer: &Peer<'_>) -> Result<World, Status> {
        let gateway = gateway_of(peer.node_cluster);
        Caller::of(peer.extensions)?.may_be(peer.node_id, gateway.as_deref())?;
        self.worlds.of(gateway.as_deref())
    }
}

impl Observer for Ears {
    fn event(&self, event: Event<'_>) {
        let Some(happened) = happened(event) else { return };
        // The task ends only when the agent does.
        let _ = self.events.send(happened);
    }
}

fn happened(event: Event<'_>) -> Option<Happened> {
    match event {
        Event::Opened { stream, peer } => Some(Happened::Came {
            stream,
            id: peer.node_id.to_owned(),
            gateway: gateway_of(peer.node_cluster),
            version: peer.user_agent_version.to_owned(),
            at_ms: chrono::Utc::now().timestamp_millis(),
        }),
        Event::Held { stream, type_url, resources }
        | Event::Acked { stream, type_url, resources } => {
            let type_url = envoy_type(type_url.as_str()).filter(|_| !resources.is_empty())?;
            Some(Happened::Has { stream, type_url, resources: resources.to_vec() })
        }
        // Of several the culprit is not known yet; the server sends them again one by one.
        Event::Nacked { stream, type_url, resources: [one], message } => Some(Happened::Refused {
            stream,
            type_url: envoy_type(type_url.as_str())?,
            name: one.name().clone(),
            version: one.version()?.clone(),
            words: message.to_owned(),
        }),
        Event::Nacked { .. } | Event::Sent { .. } => None,
        Event::Closed { stream } => Some(Happened::Left { stream }),
    }
}
