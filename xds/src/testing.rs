//! A client for tests: it sends one message at a time, as instructed. It stalls if it is not asked
//! for the next response, and disconnects when dropped. Also, without sockets, a [`model`] of a
//! client and a server for every order of events, which the fuzzers ([`fuzz`]) drive.

pub mod fuzz;
pub mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::client;
use crate::wire::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};

/// A delta client under the control of a test.
#[derive(Debug)]
pub struct FakeClient {
    node: Node,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    inbound: Streaming<DeltaDiscoveryResponse>,
    introduced: bool,
    wants: BTreeMap<String, BTreeSet<String>>,
    held: BTreeMap<(String, String), String>,
}

/// Larger than any response in a test.
const LARGEST: usize = 256 << 20;

/// Longer than any test waits for something that does come.
const PATIENCE: Duration = Duration::from_secs(20);

impl FakeClient {
    /// Opens a stream without sending anything.
    pub async fn connect(channel: Channel, node_id: &str) -> Result<Self, Status> {
        Self::connect_with(channel, MetadataMap::new(), node_id).await
    }

    /// Opens a stream with these headers.
    pub async fn connect_with(
        channel: Channel,
        metadata: MetadataMap,
        node_id: &str,
    ) -> Result<Self, Status> {
        let (requests, outbound) = mpsc::channel(16);
        let inbound = client::call(channel, metadata, outbound, LARGEST).await?;
        Ok(Self {
            node: Node { id: node_id.to_owned(), ..Node::default() },
            requests,
            inbound,
            introduced: false,
            wants: BTreeMap::new(),
            held: BTreeMap::new(),
        })
    }

    /// Sets `node.cluster`, before the first message.
    pub fn in_cluster(mut self, cluster: &str) -> Self {
        cluster.clone_into(&mut self.node.cluster);
        self
    }

    /// Sends any message; the first one with the node.
    pub async fn send(&mut self, mut request: DeltaDiscoveryRequest) -> Result<(), Status> {
        if !std::mem::replace(&mut self.introduced, true) {
            request.node = Some(self.node.clone());
        }
        self.send_raw(request).await
    }

    /// Sends this and nothing else.
    pub async fn send_raw(&mut self, request: DeltaDiscoveryRequest) -> Result<(), Status> {
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Status::unavailable("the stream was closed"))
    }

    /// Subscribes to names, or to everything if there are none.
    pub async fn subscribe(&mut self, type_url: &str, names: &[&str]) -> Result<(), Status> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        self.wants.entry(type_url.to_owned()).or_default().extend(names.iter().cloned());
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: names,
            ..Default::default()
        })
        .await
    }

    /// Unsubscribes from names.
    pub async fn unsubscribe(&mut self, type_url: &str, names: &[&str]) -> Result<(), Status> {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let wants = self.wants.entry(type_url.to_owned()).or_default();
        wants.retain(|name| !names.contains(name));
        self.held.retain(|(of, name), _| of != type_url || !names.contains(name));
        self.send(DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_unsubscribe: names,
            ..Default::default()
        })
        .await
    }

    /// The next response, unanswered. The end of the stream is an error: the server's, or `OK`.
    pub async fn next(&mut self) -> Result<DeltaDiscoveryResponse, Status> {
        let next = tokio::time::timeout(PATIENCE, self.inbound.message()).await;
        let next = next.map_err(|_| Status::deadline_exceeded("no response came"))??;
        next.ok_or_else(|| Status::ok("the stream was closed"))
    }

    /// Whether nothing arrives for this long.
    pub async fn is_quiet(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.inbound.message()).await.is_err()
    }

    /// Stores a response's content, and acknowledges it.
    pub async fn ack(&mut self, response: &DeltaDiscoveryResponse) -> Result<(), Status> {
        for resource in &response.resources {
            let key = (response.type_url.clone(), resource.name.clone());
            self.held.insert(key, resource.version.clone());
        }
        for name in &response.removed_resources {
            self.held.remove(&(response.type_url.clone(), name.clone()));
        }
        self.answer(response, None).await
    }

    /// Rejects a response.
    pub async fn nack(
        &mut self,
        response: &DeltaDiscoveryResponse,
        words: &str,
    ) -> Result<(), Status> {
        let code = tonic::Code::Internal as i32;
        self.answer(response, Some(wire::Status { code, message: words.to_owned() })).await
    }

    async fn answer(
        &mut self,
        response: &DeltaDiscoveryResponse,
        error_detail: Option<wire::Status>,
    ) -> Result<(), Status> {
        self.send(DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail,
            ..Default::default()
        })
        .await
    }

    /// Acknowledges the next response; returns names with versions, and removed names, both sorted.
    pub async fn accept(&mut self) -> Result<(Vec<(String, String)>, Vec<String>), Status> {
        let response = self.next().await?;
        self.ack(&response).await?;
        let mut upserts: Vec<_> =
            response.resources.into_iter().map(|r| (r.name, r.version)).collect();
        upserts.sort();
        let mut removals = response.removed_resources;
        removals.sort();
        Ok((upserts, removals))
    }

    /// The client's resources of a type: names with versions.
    pub fn held(&self, type_url: &str) -> BTreeMap<String, String> {
        let of_type = self.held.iter().filter(|((of, _), _)| of == type_url);
        of_type.map(|((_, name), version)| (name.clone(), version.clone())).collect()
    }

    /// Reconnects with the same subscriptions and resources (R37).
    pub async fn reconnect(self, channel: Channel) -> Result<Self, Status> {
        let Self { node, wants, held, requests, inbound, .. } = self;
        drop((requests, inbound));
        let mut again = Self::connect(channel, "").await?;
        (again.node, again.wants, again.held) = (node, wants, held);
        for (type_url, names) in again.wants.clone() {
            let request = DeltaDiscoveryRequest {
                resource_names_subscribe: names.into_iter().collect(),
                initial_resource_versions: again.held(&type_url).into_iter().collect(),
                type_url,
                ..Default::default()
            };
            again.send(request).await?;
        }
        Ok(again)
    }
}
