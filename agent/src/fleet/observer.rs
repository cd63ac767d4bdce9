//! Observes the xDS server: admits Envoys and passes on their answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use imp_process::clock;
use imp_process::random::random;
use imp_xds::{Admission, Event, Observer, Peer, ResourceSet, SentResource, StreamId};
use tokio::sync::mpsc;
use tonic::Status;

use super::door::Doors;
use super::gateway_resources::{GatewayResources, Kind, envoy_type};
use crate::port::Caller;

/// An Envoy's action, in the order of occurrence.
#[derive(Debug)]
pub(super) enum EnvoyEvent {
    Came {
        stream: StreamId,
        id: String,
        gateway: Option<String>,
        version: String,
        /// Without the module, beside others that may have it.
        is_plain: bool,
        at_ms: i64,
        /// The type of its stream, if it has one for each.
        of_type: Option<&'static str>,
        /// Whether it is somebody else's, and has only what is behind their listeners.
        attached: bool,
    },
    /// It has these versions.
    Has {
        stream: StreamId,
        type_url: &'static str,
        resources: Vec<SentResource>,
    },
    /// It rejected this version.
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
    /// One cannot have the filter that is rendered; it will come again.
    Separate,
}

impl EnvoyEvent {
    /// The resources that it is about.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Has { resources, .. } => resources.len(),
            Self::Came { .. } | Self::Refused { .. } | Self::Left { .. } | Self::Separate => 1,
        }
    }
}

/// Passes events to the fleet's thread. The queue is unbounded because a stream must never wait for
/// it; it holds at most one answer per type and stream beyond what the thread has seen.
#[derive(Debug)]
pub(super) struct EnvoyObserver {
    pub(super) gateway_resources: GatewayResources,
    pub(super) events: mpsc::UnboundedSender<EnvoyEvent>,
    pub(super) refusers: Refusers,
    pub(super) doors: Doors,
}

/// The nodes that rejected something, across their streams: a running Envoy must not be sent the
/// same bytes again.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusers {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    names: HashMap<StreamId, String>,
    refusals: HashMap<String, u32>,
}

/// Above this number, names are of Envoys that are gone.
const MAX_REFUSERS: usize = 10_000;

impl Refusers {
    fn note(&self, event: &Event<'_>) {
        use Event::{Closed, Nacked, Opened};
        if !matches!(event, Opened { .. } | Nacked { .. } | Closed { .. }) {
            return;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Opened { stream, peer } => {
                seen.names.insert(*stream, peer.node_id.to_owned());
            }
            Event::Nacked { stream, .. } => {
                let Some(name) = seen.names.get(stream).cloned() else { return };
                let count = seen.attempts_of(name);
                *count = count.saturating_add(STEP);
            }
            Event::Closed { stream } => {
                seen.names.remove(stream);
            }
            _ => {}
        }
    }

    /// Adds nodes that rejected something still wanted, before this agent restarted.
    pub(super) fn restore<'a>(&self, nodes: impl Iterator<Item = &'a String>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for node in nodes {
            seen.attempts_of(node.clone());
        }
    }

    fn attempt(&self, node: &str) -> u32 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.refusals.get(node).copied().unwrap_or(0)
    }
}

impl Seen {
    /// The attempts of a node that rejected something, in a range apart from those of earlier runs
    /// of this agent.
    fn attempts_of(&mut self, node: String) -> &mut u32 {
        if self.refusals.len() >= MAX_REFUSERS {
            self.refusals.clear();
        }
        self.refusals.entry(node).or_insert_with(|| (random::<u32>() >> 8).max(STEP))
    }
}

/// The range for a stream, which counts its own attempts from its start.
const STEP: u32 = 1 << 10;

/// `node.cluster` names a gateway by its id; any other value means all gateways.
pub(super) fn gateway_of(node_cluster: &str) -> Option<String> {
    let id = uuid::Uuid::try_parse(node_cluster).ok()?;
    Some(id.hyphenated().to_string())
}

fn gateway_of_peer(peer: &Peer<'_>) -> Option<String> {
    let said = gateway_of(peer.node_cluster);
    Caller::of(peer.extensions).map_or(None, |caller| caller.gateway_or(said))
}

impl Admission for EnvoyObserver {
    fn admit(&self, peer: &Peer<'_>) -> Result<ResourceSet, Status> {
        let caller = Caller::of(peer.extensions)?;
        let gateway = caller.gateway_or(gateway_of(peer.node_cluster));
        caller.may_be(peer.node_id, gateway.as_deref())?;
        let is_module = self.doors.choose(peer, caller).is_module;
        let kind = match is_module || !self.doors.has_module() {
            true => Kind::Rendered,
            false => Kind::Plain,
        };
        if kind == Kind::Plain && !self.gateway_resources.are_separate() {
            // The receiver ends only with the agent.
            let _ = self.events.send(EnvoyEvent::Separate);
            return Err(Status::unavailable("its configuration is being prepared"));
        }
        self.gateway_resources.of(gateway.as_deref(), kind)
    }

    fn attempt(&self, peer: &Peer<'_>) -> u32 {
        self.refusers.attempt(peer.node_id)
    }
}

impl Observer for EnvoyObserver {
    fn event(&self, event: Event<'_>) {
        self.refusers.note(&event);
        let is_plain = match &event {
            Event::Opened { stream, peer } => self.doors.opened(*stream, peer),
            Event::Closed { stream } => {
                self.doors.closed(*stream);
                false
            }
            _ => false,
        };
        let Some(happened) = happened(event, is_plain) else { return };
        // The receiver ends only with the agent.
        let _ = self.events.send(happened);
    }
}

fn happened(event: Event<'_>, is_plain: bool) -> Option<EnvoyEvent> {
    match event {
        Event::Opened { stream, peer } => Some(EnvoyEvent::Came {
            stream,
            id: peer.node_id.to_owned(),
            gateway: gateway_of_peer(peer),
            version: peer.user_agent_version.to_owned(),
            is_plain,
            at_ms: clock::now().timestamp_millis(),
            of_type: peer.type_url,
            attached: Caller::of(peer.extensions).is_ok_and(Caller::is_attached),
        }),
        Event::Held { stream, type_url, resources }
        | Event::Acked { stream, type_url, resources } => {
            let type_url = envoy_type(type_url.as_str()).filter(|_| !resources.is_empty())?;
            Some(EnvoyEvent::Has { stream, type_url, resources: resources.to_vec() })
        }
        // With several resources the wrong one is unknown; the server sends them again in halves.
        Event::Nacked { stream, type_url, resources: [one], message } => {
            Some(EnvoyEvent::Refused {
                stream,
                type_url: envoy_type(type_url.as_str())?,
                name: one.name().clone(),
                version: one.version()?.clone(),
                words: message.to_owned(),
            })
        }
        Event::Nacked { .. } | Event::Sent { .. } => None,
        Event::Closed { stream } => Some(EnvoyEvent::Left { stream }),
    }
}
