//! Simulated agents: they speak the protocol, without Envoys behind them.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use imp_grammar::features;
use imp_grammar::proof::{self, PrivateKey};
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_client::AgentServiceClient;
use imp_proto::{cause, config, method};
use imp_xds::client::{ClientConfig, DeltaClient, Subscriber, Update};
use imp_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use imp_xds::{Resource, TypeUrl};
use prost::Name;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::control_plane::{Caller, ControlPlane, Now, Shop};

const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until there is a value.
#[track_caller]
pub fn eventually<T, F: Future<Output = Option<T>>>(
    what: impl Into<String>,
    mut look: impl FnMut() -> F,
) -> impl Future<Output = T> {
    let what = format!("{} (asked at {})", what.into(), std::panic::Location::caller());
    async move {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// An agent's identity, and the key that proves it.
#[derive(Clone, Debug)]
pub struct Credential {
    pub jwt: String,
    pub key: Arc<PrivateKey>,
    /// The name of its process.
    pub instance: String,
    pub now: Now,
}

impl Credential {
    /// A new key without an identity.
    pub fn fresh(now: &Now) -> Self {
        let key = PrivateKey::from_seed(&imp_process::random::random::<[u8; proof::SEED_BYTES]>())
            .unwrap();
        let instance = "process".to_owned();
        Self { jwt: String::new(), key: Arc::new(key), instance, now: now.clone() }
    }

    pub fn with_jwt(&self, jwt: &str) -> Self {
        Self { jwt: jwt.to_owned(), ..self.clone() }
    }

    /// The same identity in another process.
    pub fn copied(&self, instance: &str) -> Self {
        Self { instance: instance.to_owned(), ..self.clone() }
    }

    /// The metadata of a call, each with its own proof.
    pub fn metadata(&self, path: &str) -> MetadataMap {
        let token = (!self.jwt.is_empty()).then_some(&*self.jwt);
        let id = uuid::Uuid::new_v4().to_string();
        let call = proof::Call { path, token };
        let now_ms = self.now.get().timestamp_millis();
        let proof = self.key.prove(&call, &self.instance, &id, now_ms);
        let mut metadata = MetadataMap::new();
        metadata.insert(proof::HEADER, proof.parse().unwrap());
        if let Some(token) = token {
            metadata.insert("authorization", format!("DPoP {token}").parse().unwrap());
        }
        metadata
    }
}

/// A request with these headers.
pub fn with<T>(message: T, metadata: MetadataMap) -> Request<T> {
    let mut request = Request::new(message);
    *request.metadata_mut() = metadata;
    request
}

/// Creates a registration token of this cluster.
pub async fn registration_token(admin: &Caller, cluster: &str) -> String {
    let path = format!("/v1/clusters/{cluster}/registration-tokens");
    let made = admin.post(&path, serde_json::json!({})).await.ok();
    made["token"].as_str().unwrap().to_owned()
}

pub async fn register(
    plane: &ControlPlane,
    token: &str,
) -> Result<(pb::RegisterResponse, Credential), Status> {
    let nobody = Credential::fresh(&plane.now);
    let answer = register_over(channel(plane.running.agent_addr), &nobody, token).await?;
    let credential = nobody.with_jwt(&answer.jwt);
    Ok((answer, credential))
}

pub async fn register_over(
    channel: Channel,
    nobody: &Credential,
    token: &str,
) -> Result<pb::RegisterResponse, Status> {
    let request = pb::RegisterRequest {
        token: token.to_owned(),
        agent_version: "0.0.0".to_owned(),
        hostname: "test".to_owned(),
    };
    let mut client = AgentServiceClient::new(channel);
    let answer = client.register(with(request, nobody.metadata(method::REGISTER))).await?;
    Ok(answer.into_inner())
}

pub async fn renew(
    address: SocketAddr,
    credential: &Credential,
) -> Result<pb::RenewResponse, Status> {
    renew_with(address, credential.metadata(method::RENEW)).await
}

pub async fn renew_with(
    address: SocketAddr,
    metadata: MetadataMap,
) -> Result<pb::RenewResponse, Status> {
    let mut client = AgentServiceClient::new(channel(address));
    Ok(client.renew(with(pb::RenewRequest {}, metadata)).await?.into_inner())
}

/// The first response of a delta stream, or the error.
pub async fn delta(address: SocketAddr, credential: &Credential) -> Result<(), Status> {
    delta_with(address, credential.metadata(method::DELTA)).await
}

pub async fn delta_with(address: SocketAddr, metadata: MetadataMap) -> Result<(), Status> {
    let codec: ProstCodec<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = ProstCodec::default();
    let mut grpc = tonic::client::Grpc::new(channel(address));
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let first = DeltaDiscoveryRequest {
        node: Some(Node { id: "agent".to_owned(), ..Node::default() }),
        type_url: config::Publish::type_url(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..Default::default()
    };
    // The stream stays open on our side.
    let requests = tokio_stream::StreamExt::chain(
        tokio_stream::once(first),
        tokio_stream::pending::<DeltaDiscoveryRequest>(),
    );
    let path = http::uri::PathAndQuery::from_static(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    );
    let request = with(requests, metadata);
    let mut inbound: Streaming<DeltaDiscoveryResponse> =
        grpc.streaming(request, path, codec).await?.into_inner();
    match tokio::time::timeout(PATIENCE, inbound.message()).await {
        Ok(answer) => answer.map(drop),
        Err(_) => panic!("the stream says nothing"),
    }
}

/// A report stream.
pub struct Report {
    pub say: mpsc::Sender<pb::ReportRequest>,
    pub answers: Streaming<pb::ReportResponse>,
}

impl Report {
    pub async fn open(address: SocketAddr, credential: &Credential) -> Result<Self, Status> {
        Self::open_with(address, credential.metadata(method::REPORT)).await
    }

    pub async fn open_with(address: SocketAddr, metadata: MetadataMap) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        let mut client = AgentServiceClient::new(channel(address));
        let answers = client.report(with(ReceiverStream::new(said), metadata)).await?;
        Ok(Self { say, answers: answers.into_inner() })
    }

    pub async fn send(&self, kind: pb::report_request::Kind) {
        self.say.send(pb::ReportRequest { kind: Some(kind) }).await.unwrap();
    }

    pub async fn statuses(&self, publishes: Vec<pb::PublishStatus>) {
        self.send(pb::report_request::Kind::Publishes(pb::PublishStatuses { publishes })).await;
    }

    /// Reports exactly these gateways as refused.
    pub async fn gateways(&self, refusals: Vec<pb::GatewayRefusal>) {
        let all = pb::GatewayRefusals { refusals, truncated: false };
        self.send(pb::report_request::Kind::Gateways(all)).await;
    }

    /// There are more than these.
    pub async fn some_gateways(&self, refusals: Vec<pb::GatewayRefusal>) {
        let some = pb::GatewayRefusals { refusals, truncated: true };
        self.send(pb::report_request::Kind::Gateways(some)).await;
    }

    pub async fn beat(&self, nodes: &[&str]) {
        let node = |id: &&str| pb::heartbeat::Node { id: id.to_string(), ..Default::default() };
        let nodes = nodes.iter().map(node).collect();
        let beat = pb::Heartbeat { agent_version: "1.2.3".to_owned(), nodes, ..Default::default() };
        self.send(pb::report_request::Kind::Heartbeat(beat)).await;
    }

    /// Sends a heartbeat of a build that knows these policy types.
    pub async fn knows(&self, agent_version: &str, policy_types: &[&str]) {
        self.can(agent_version, policy_types, &["envoy-gateway"]).await;
    }

    /// Sends a heartbeat of a build that knows these policy types and gateway classes.
    pub async fn can(&self, agent_version: &str, policy_types: &[&str], classes: &[&str]) {
        let features = &features::ALL;
        self.serves(agent_version, policy_types, classes, features, &[]).await;
    }

    /// The same with these features and settings of gateways.
    pub async fn serves(
        &self,
        agent_version: &str,
        policy_types: &[&str],
        classes: &[&str],
        features: &[&str],
        settings: &[&str],
    ) {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        let capabilities = pb::Capabilities {
            policy_types: words(policy_types),
            auth_modes: words(&["none", "api_key"]),
            gateway_classes: words(classes),
            features: words(features),
            gateway_settings: words(settings),
        };
        let beat = pb::Heartbeat {
            agent_version: agent_version.to_owned(),
            capabilities: Some(capabilities),
            ..Default::default()
        };
        self.send(pb::report_request::Kind::Heartbeat(beat)).await;
    }

    /// Says that `agent`, whose stream this is, has all features but these, and waits until that is known.
    pub async fn lacks(&self, features: &[&str], agent: &Agent, shop: &Shop, admin: &Caller) {
        let version = if features.is_empty() { "new" } else { "old" };
        let has: Vec<_> = features::ALL.into_iter().filter(|it| !features.contains(it)).collect();
        self.serves(version, &["rate_limit"], &["envoy-gateway"], &has, &[]).await;
        let path = format!("{}/agents/{}", shop.path("clusters"), agent.id);
        shows(admin, &path, |it| it["agent_version"] == version).await;
    }

    /// Sends counters and waits until they are acknowledged.
    pub async fn usage(&mut self, sequence: u64, counters: Vec<pb::UsageCounter>) {
        let batch = pb::UsageBatch { sequence, epoch: "one".to_owned(), counters };
        self.send(pb::report_request::Kind::Usage(batch)).await;
        loop {
            let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
            let answer = answer.unwrap().unwrap().unwrap();
            // Heartbeats are answered, too.
            if answer.history.is_none() {
                return assert_eq!(answer.usage_sequence, sequence);
            }
        }
    }

    /// Returns how the stream ends.
    pub async fn end(mut self) -> Status {
        loop {
            match tokio::time::timeout(PATIENCE, self.answers.message()).await.unwrap() {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("closed"),
                Err(status) => return status,
            }
        }
    }
}

/// One agent's report on a publish with these numbers of Envoys: acknowledged, rejected, behind.
pub fn status(publish: &str, revision: u64, nodes: [u32; 3]) -> pb::PublishStatus {
    let [nodes_acked, nodes_nacked, nodes_behind] = nodes;
    let all = nodes_nacked == 0 && nodes_behind == 0 && nodes_acked > 0;
    pb::PublishStatus {
        publish_id: publish.to_owned(),
        revision,
        acked_revision: if all { revision } else { revision - 1 },
        nodes_acked,
        nodes_nacked,
        nodes_behind,
        ..pb::PublishStatus::default()
    }
}

/// A registered agent that follows the delta stream.
pub struct Agent {
    pub id: String,
    pub credential: Credential,
    pub address: SocketAddr,
    pub held: Arc<Held>,
    cancel: CancellationToken,
}

/// What a delta client was sent.
#[derive(Default)]
pub struct Held {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connected: bool,
    resources: HashMap<TypeUrl, BTreeMap<String, Resource>>,
    /// Every name that was added or removed, in order.
    log: Vec<String>,
}

impl Subscriber for Held {
    fn held(&self, type_url: &TypeUrl) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        let of_type = state.resources.get(type_url).into_iter().flatten();
        of_type.map(|(name, held)| (name.clone(), held.version().to_string())).collect()
    }

    fn apply(&self, update: Update) -> Vec<(String, String)> {
        let mut state = self.state.lock().unwrap();
        for resource in update.upserts {
            let name = resource.name().to_string();
            state.log.push(format!("+{name}"));
            state.resources.entry(update.type_url.clone()).or_default().insert(name, resource);
        }
        for name in update.removals {
            state.log.push(format!("-{name}"));
            state.resources.entry(update.type_url.clone()).or_default().remove(&name);
        }
        Vec::new()
    }

    fn connected(&self, connected: bool) {
        self.state.lock().unwrap().connected = connected;
    }
}

impl Held {
    /// All resources of one type.
    pub fn all<M: config::Resource>(&self) -> Vec<M> {
        let state = self.state.lock().unwrap();
        let of_type = state.resources.get(&M::type_url().into());
        let values = of_type.into_iter().flatten().map(|(_, resource)| resource.value().clone());
        values.map(|value| M::decode(value).unwrap()).collect()
    }

    /// Names and versions of one type.
    pub fn versions(&self, of: config::ResourceType) -> BTreeMap<String, String> {
        let state = self.state.lock().unwrap();
        let of_type = state.resources.get(&of.type_url().into()).into_iter().flatten();
        of_type.map(|(name, held)| (name.clone(), held.version().to_string())).collect()
    }

    /// The id of the request that last changed it.
    pub fn cause<M: config::Resource>(&self, id: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        let held = state.resources.get(&M::type_url().into())?.get(id)?;
        held.metadata()?.text(cause::NAMESPACE, cause::REQUEST_ID).map(str::to_owned)
    }

    /// The number of gateways, publishes, entitlements and credentials.
    pub fn counts(&self) -> [usize; 4] {
        [
            self.all::<config::Gateway>().len(),
            self.all::<config::Publish>().len(),
            self.all::<config::Entitlement>().len(),
            self.all::<config::Credential>().len(),
        ]
    }

    pub fn is_connected(&self) -> bool {
        self.state.lock().unwrap().connected
    }

    /// Waits for the end of the delta stream: the client learns of it some time after the server.
    #[track_caller]
    pub fn end(self: &Arc<Self>) -> impl Future<Output = ()> + use<> {
        let held = self.clone();
        eventually("the end of the delta stream", move || {
            let ended = !held.is_connected();
            async move { ended.then_some(()) }
        })
    }

    /// What was added and removed since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    #[track_caller]
    pub fn reach(self: &Arc<Self>, counts: [usize; 4]) -> impl Future<Output = ()> + use<> {
        let held = self.clone();
        eventually(format!("{counts:?}"), move || {
            let reached = held.counts() == counts;
            async move { reached.then_some(()) }
        })
    }

    /// The only resource of its type, once it is as expected.
    #[track_caller]
    pub fn one<M: config::Resource + Debug>(
        self: &Arc<Self>,
        good: impl Fn(&M) -> bool,
    ) -> impl Future<Output = M> {
        let held = self.clone();
        eventually(M::type_url(), move || {
            let found = held.all::<M>().into_iter().find(|message| good(message));
            async move { found }
        })
    }
}

impl Agent {
    /// Registers in this cluster and follows the delta stream.
    pub async fn start(plane: &ControlPlane, cluster: &str) -> Self {
        let token = registration_token(&plane.admin, cluster).await;
        let (registered, credential) = register(plane, &token).await.unwrap();
        assert_eq!(registered.cluster_id, cluster);
        let id = registered.agent_id;
        let address = plane.running.agent_addr;
        let mut agent = Self {
            id,
            credential,
            address,
            held: Arc::default(),
            cancel: CancellationToken::new(),
        };
        agent.follow(address).await;
        agent
    }

    /// Follows the control plane at this address from now on.
    pub async fn follow(&mut self, address: SocketAddr) {
        self.cancel.cancel();
        self.cancel = CancellationToken::new();
        self.address = address;
        let types = config::type_urls().into_iter().map(TypeUrl::from).collect();
        let client = DeltaClient::new(ClientConfig::new(&*self.id, types), self.held.clone());
        let (credential, cancel) = (self.credential.clone(), self.cancel.clone());
        tokio::spawn(async move {
            let connect = || {
                let metadata = credential.metadata(method::DELTA);
                async move { Ok((channel(address), metadata)) }
            };
            client.run(connect, cancel).await;
        });
        let held = self.held.clone();
        eventually("a delta stream", || {
            let connected = held.is_connected();
            async move { connected.then_some(()) }
        })
        .await;
    }

    pub async fn report(&self) -> Report {
        Report::open(self.address, &self.credential).await.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

/// Waits until GET returns the expected value.
#[track_caller]
pub fn shows(
    caller: &Caller,
    path: &str,
    good: impl Fn(&Value) -> bool,
) -> impl Future<Output = Value> {
    let (caller, path) = (caller.clone(), path.to_owned());
    let good = Arc::new(good);
    eventually(path.clone(), move || {
        let (caller, path, good) = (caller.clone(), path.clone(), good.clone());
        async move {
            let seen = caller.get(&path).await.ok();
            good(&seen).then_some(seen)
        }
    })
}
