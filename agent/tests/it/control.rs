//! A control plane controlled by tests.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use imp_grammar::proof;
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_server::{AgentService, AgentServiceServer};
use imp_proto::config::Resource as Message;
use imp_proto::method;
use imp_xds::{
    Admission, AdsServer, Change, Event, Observer, Peer, Resource, ResourceSet, ServerConfig,
    TypeRules,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const TOKEN: &str = "imp_reg_good";

/// Its resources, and what agents reported. Shared with the running server.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) shared: Arc<Mutex<Shared>>,
    pub(crate) set: ResourceSet,
}

pub(crate) struct Shared {
    /// The JWT that `Register` and `Renew` issue; only this one is accepted.
    pub(crate) jwt: u32,
    pub(crate) jwt_life_ms: i64,
    pub(crate) revoked: bool,
    /// Whether usage is committed.
    pub(crate) commits: bool,
    pub(crate) registrations: u32,
    pub(crate) renewals: u32,
    pub(crate) streams: u32,
    pub(crate) statuses: BTreeMap<String, pb::PublishStatus>,
    /// Every status of every message, in order.
    pub(crate) said: Vec<pb::PublishStatus>,
    /// The refused gateways; `None` if none were reported.
    pub(crate) refused_gateways: Option<Vec<pb::GatewayRefusal>>,
    pub(crate) heartbeat: Option<pb::Heartbeat>,
    pub(crate) usage: Vec<pb::UsageBatch>,
    /// The history that heartbeats are answered with, and that calls must show if any.
    pub(crate) history: Option<String>,
    /// Name and version of every acknowledged resource, in order.
    pub(crate) acked: Vec<(String, String)>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            jwt: 1,
            jwt_life_ms: 3_600_000,
            revoked: false,
            commits: true,
            registrations: 0,
            renewals: 0,
            streams: 0,
            statuses: BTreeMap::new(),
            said: Vec::new(),
            refused_gateways: None,
            heartbeat: None,
            usage: Vec::new(),
            history: None,
            acked: Vec::new(),
        }
    }
}

/// A running server; ends when dropped, its state stays.
pub(crate) struct Control {
    pub(crate) address: SocketAddr,
    pub(crate) state: State,
    /// Its own runtime, so that a stop breaks every connection.
    runtime: Option<tokio::runtime::Runtime>,
}

impl State {
    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Shared) -> T) -> T {
        look(&mut self.shared.lock().unwrap())
    }

    pub(crate) fn set<M: Message>(&self, message: &M) {
        self.apply(vec![resource(message)]);
    }

    /// Applies all at once.
    pub(crate) fn apply(&self, resources: Vec<(String, Resource)>) {
        let mut change = Change::default();
        for (type_url, resource) in resources {
            change.upsert(type_url, resource);
        }
        self.set.apply(change);
    }

    pub(crate) fn remove<M: Message>(&self, id: &str) {
        let mut change = Change::default();
        change.remove(M::type_url(), id);
        self.set.apply(change);
    }

    pub(crate) fn status(&self, id: &str) -> Option<pb::PublishStatus> {
        self.with(|shared| shared.statuses.get(id).cloned())
    }

    /// Checks a JWT, and the proof for this call.
    fn admits(&self, headers: &http::HeaderMap, path: &str) -> Result<(), Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text("authorization");
        let token = bearer.and_then(|bearer| bearer.strip_prefix("DPoP "));
        proven(headers, path, token)?;
        self.with(|shared| {
            if shared.revoked {
                return Err(Status::permission_denied("this agent was revoked"));
            }
            let seen = headers.get("imp-history").and_then(|value| value.to_str().ok());
            if seen.is_some() && seen != shared.history.as_deref() {
                let mut status = Status::failed_precondition("this is an older database");
                let reason = "control_went_back".parse().unwrap();
                status.metadata_mut().insert("imp-reason", reason);
                return Err(status);
            }
            let good = bearer == Some(format!("DPoP jwt-{}", shared.jwt).as_str());
            good.then_some(()).ok_or_else(|| Status::unauthenticated("not our JWT"))
        })
    }
}

/// Verifies like the control plane, without replay protection.
fn proven(headers: &http::HeaderMap, path: &str, token: Option<&str>) -> Result<(), Status> {
    let proof = headers.get(proof::HEADER).and_then(|value| value.to_str().ok());
    let now_ms = imp_process::clock::now().timestamp_millis();
    let found = proof::check(proof.unwrap_or_default(), &proof::Call { path, token }, now_ms);
    found.map(drop).map_err(|fault| Status::unauthenticated(fault.to_string()))
}

/// The resource of a message.
pub(crate) fn resource<M: Message>(message: &M) -> (String, Resource) {
    let bytes = message.encode_to_vec();
    let version = imp_proto::content_version(&bytes);
    (M::type_url(), Resource::new(message.resource_name(), version, bytes.into()))
}

impl Control {
    /// Starts with an empty resource set that is ready.
    pub(crate) async fn start() -> Self {
        let state = State::default();
        state.set.apply(Change::default());
        Self::start_at("127.0.0.1:0".parse().unwrap(), state).await
    }

    pub(crate) async fn start_at(address: SocketAddr, state: State) -> Self {
        let listener = rebind(address);
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let rules = imp_proto::config::type_urls().into_iter().map(|url| TypeRules::new(url, 0));
        let config = ServerConfig::new(rules.collect());
        let ads =
            AdsServer::new(config, Arc::new(Gate(state.clone())), Arc::new(Acks(state.clone())));
        let agents = AgentServiceServer::new(Agents(state.clone()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let server = tonic::transport::Server::builder().add_service(ads).add_service(agents);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { address, state, runtime: Some(runtime) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops like a crash.
    pub(crate) fn stop(self) -> (SocketAddr, State) {
        (self.address, self.state.clone())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The port may still be in use by the previous connections.
fn rebind(address: SocketAddr) -> std::net::TcpListener {
    let deadline = std::time::Instant::now() + crate::rig::PATIENCE;
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{address}: {error}"),
        }
        std::thread::yield_now();
    }
}

struct Gate(State);

impl Admission for Gate {
    fn authorise(&self, request: &http::request::Parts) -> Result<(), Status> {
        self.0.admits(&request.headers, request.uri.path())?;
        self.0.with(|shared| shared.streams += 1);
        Ok(())
    }

    fn admit(&self, _: &Peer<'_>) -> Result<ResourceSet, Status> {
        Ok(self.0.set.clone())
    }
}

struct Acks(State);

impl Observer for Acks {
    fn event(&self, event: Event<'_>) {
        let Event::Acked { resources, .. } = event else { return };
        let acked = resources.iter().filter_map(|resource| {
            Some((resource.name().to_string(), resource.version()?.to_string()))
        });
        self.0.with(|shared| shared.acked.extend(acked));
    }
}

struct Agents(State);

impl Agents {
    fn issue(&self) -> (String, i64) {
        let now = imp_process::clock::now().timestamp_millis();
        self.0.with(|shared| (format!("jwt-{}", shared.jwt), now + shared.jwt_life_ms))
    }
}

#[tonic::async_trait]
impl AgentService for Agents {
    type ReportStream = ReceiverStream<Result<pb::ReportResponse, Status>>;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        proven(request.metadata().as_ref(), method::REGISTER, None)?;
        if request.into_inner().token != TOKEN {
            return Err(Status::unauthenticated("unknown token"));
        }
        // A new registration is a new agent.
        self.0.with(|shared| (shared.registrations += 1, shared.revoked = false));
        let (jwt, jwt_expires_at_ms) = self.issue();
        let (agent_id, cluster_id) = ("agent-1".into(), "cluster-1".into());
        Ok(Response::new(pb::RegisterResponse { agent_id, cluster_id, jwt, jwt_expires_at_ms }))
    }

    async fn renew(
        &self,
        _: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        if self.0.with(|shared| shared.revoked) {
            return Err(Status::permission_denied("this agent was revoked"));
        }
        self.0.with(|shared| shared.renewals += 1);
        let (jwt, jwt_expires_at_ms) = self.issue();
        Ok(Response::new(pb::RenewResponse { jwt, jwt_expires_at_ms }))
    }

    async fn report(
        &self,
        request: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        self.0.admits(request.metadata().as_ref(), method::REPORT)?;
        let (answers, outbound) = mpsc::channel(16);
        let state = self.0.clone();
        let mut inbound = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(request)) = inbound.message().await {
                let Some(kind) = request.kind else { continue };
                if let pb::report_request::Kind::Heartbeat(_) = &kind
                    && let Some(point) = state.with(|shared| shared.history.clone())
                {
                    let history = Some(pb::History { point });
                    let _ =
                        answers.send(Ok(pb::ReportResponse { history, usage_sequence: 0 })).await;
                }
                if let Some(usage_sequence) = state.with(|shared| shared.hear(kind)) {
                    let _ = answers
                        .send(Ok(pb::ReportResponse { usage_sequence, ..Default::default() }))
                        .await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

impl Shared {
    fn hear(&mut self, kind: pb::report_request::Kind) -> Option<u64> {
        use pb::report_request::Kind;
        match kind {
            Kind::Heartbeat(heartbeat) => self.heartbeat = Some(heartbeat),
            Kind::Publishes(list) => {
                for status in list.publishes {
                    self.said.push(status.clone());
                    self.statuses.insert(status.publish_id.clone(), status);
                }
            }
            Kind::Gateways(list) => self.refused_gateways = Some(list.refusals),
            Kind::Usage(batch) => {
                let sequence = batch.sequence;
                self.usage.push(batch);
                return self.commits.then_some(sequence);
            }
        }
        None
    }
}
