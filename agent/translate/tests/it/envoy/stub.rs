//! The minimum that Envoy needs of an agent: a delta ADS that sends one resource per message and
//! reports each verdict, and an ext_authz service that knows one key.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::ScopedRouteConfiguration;
use envoy_types::pb::envoy::service::auth::v3 as auth;
use envoy_types::pb::envoy::service::discovery::v3 as ads;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status as RpcStatus;
use imp_translate::xds::{self, CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
use imp_translate::{GatewayDelta, Rendered};
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

/// The order of sending.
const TYPES: [&str; 5] = [CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE];

#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) type_url: String,
    pub(crate) name: String,
    /// `None` for a removal.
    pub(crate) version: Option<String>,
    pub(crate) refused: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Stub {
    set: Arc<watch::Sender<BTreeMap<(usize, String), Rendered>>>,
    verdicts: mpsc::UnboundedSender<Verdict>,
    pub(crate) door_broken: Arc<AtomicBool>,
    pub(crate) checks: Arc<Mutex<Vec<BTreeMap<String, String>>>>,
    /// While set, nothing is sent.
    pub(crate) paused: Arc<AtomicBool>,
    /// While set, scopes are named as by former releases.
    pub(crate) former_names: Arc<AtomicBool>,
}

impl Stub {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Verdict>) {
        let (verdicts, receiver) = mpsc::unbounded_channel();
        let stub = Self {
            set: Arc::new(watch::Sender::new(BTreeMap::new())),
            verdicts,
            door_broken: Arc::default(),
            checks: Arc::default(),
            paused: Arc::default(),
            former_names: Arc::default(),
        };
        (stub, receiver)
    }

    /// The names of what there is of a type.
    pub(crate) fn holds(&self, type_url: &str) -> Vec<String> {
        let set = self.set.borrow();
        let of_type = set.keys().filter(|(order, _)| TYPES[*order] == type_url);
        of_type.map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn apply(&self, delta: &GatewayDelta) {
        let order = order_of;
        self.set.send_modify(|set| {
            for upsert in &delta.upserts {
                set.insert((order(upsert.type_url), upsert.name.to_string()), upsert.clone());
            }
            for (type_url, name) in &delta.removals {
                set.remove(&(order(type_url), name.clone()));
            }
        });
    }
}

fn order_of(type_url: &str) -> usize {
    TYPES.iter().position(|known| *known == type_url).unwrap()
}

/// The scope under the name that former releases gave it.
fn as_formerly(scope: &Rendered) -> Rendered {
    let name = xds::scope::former_name(&scope.value).unwrap();
    let message = ScopedRouteConfiguration::decode(scope.value.clone()).unwrap();
    let message = ScopedRouteConfiguration { name: name.clone(), ..message };
    Rendered { name: name.into(), value: message.encode_to_vec().into(), ..scope.clone() }
}

/// The subscriptions of one stream, and what it was sent.
#[derive(Default)]
struct Session {
    wildcard: BTreeSet<usize>,
    named: BTreeSet<(usize, String)>,
    sent: BTreeMap<(usize, String), Arc<str>>,
    /// What Envoy has accepted in the version that was sent.
    accepted: BTreeSet<(usize, String)>,
    /// Scopes that Envoy has under the name of a former release.
    former: BTreeMap<String, String>,
    nonce: u64,
}

impl Session {
    fn ask(&mut self, request: &ads::DeltaDiscoveryRequest) {
        let Some(order) = TYPES.iter().position(|t| *t == request.type_url) else { return };
        for name in &request.resource_names_subscribe {
            self.named.insert((order, name.clone()));
        }
        for name in &request.resource_names_unsubscribe {
            let key = (order, name.clone());
            self.named.remove(&key);
            self.sent.remove(&key);
            self.accepted.remove(&key);
        }
        let by_name = [EXTENSION, ROUTES].contains(&TYPES[order]);
        if !by_name && request.response_nonce.is_empty() {
            self.wildcard.insert(order);
        }
    }

    fn answered(&mut self, verdict: &Verdict) {
        if verdict.version.is_some() && verdict.refused.is_none() {
            self.accepted.insert((order_of(&verdict.type_url), verdict.name.clone()));
        }
    }

    /// The next message to send, and the subject of its verdict.
    fn next(
        &mut self,
        set: &BTreeMap<(usize, String), Rendered>,
        former_names: bool,
    ) -> Option<(ads::DeltaDiscoveryResponse, Verdict)> {
        let wanted =
            |key: &(usize, String)| self.wildcard.contains(&key.0) || self.named.contains(key);
        let due = set
            .iter()
            .find(|(key, r)| {
                let is_news = self.sent.get(*key) != Some(&r.version);
                let table = r.table.as_ref().map(|table| (order_of(ROUTES), table.to_string()));
                let may_go = table.is_none_or(|table| self.accepted.contains(&table));
                wanted(key) && is_news && may_go
            })
            .map(|(key, resource)| (key.clone(), Some(resource)));
        let gone = || self.sent.keys().rev().find(|key| !set.contains_key(*key));
        let (key, resource) = due.or_else(|| gone().map(|key| (key.clone(), None)))?;
        self.nonce += 1;
        let mut response = ads::DeltaDiscoveryResponse {
            type_url: TYPES[key.0].into(),
            nonce: self.nonce.to_string(),
            ..Default::default()
        };
        match resource {
            Some(resource) => {
                self.sent.insert(key.clone(), resource.version.clone());
                self.accepted.remove(&key);
                let named = match resource.type_url {
                    SCOPE if former_names => as_formerly(resource),
                    _ => resource.clone(),
                };
                if named.name != resource.name {
                    self.former.insert(key.1.clone(), named.name.to_string());
                } else if let Some(former) = self.former.remove(&key.1) {
                    response.removed_resources.push(former);
                }
                response.resources.push(ads::Resource {
                    name: named.name.to_string(),
                    version: named.version.to_string(),
                    resource: Some(Any {
                        type_url: named.type_url.into(),
                        value: named.value.to_vec(),
                    }),
                    ..Default::default()
                });
            }
            None => {
                self.sent.remove(&key);
                self.accepted.remove(&key);
                response.removed_resources.push(key.1.clone());
            }
        }
        let version = resource.map(|resource| resource.version.to_string());
        let verdict =
            Verdict { type_url: TYPES[key.0].into(), name: key.1, version, refused: None };
        Some((response, verdict))
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ads::aggregated_discovery_service_server::AggregatedDiscoveryService for Stub {
    type StreamAggregatedResourcesStream = Responses<ads::DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<ads::DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<ads::DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<ads::DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let mut requests = request.into_inner();
        let mut set = self.set.subscribe();
        let verdicts = self.verdicts.clone();
        let (paused, former_names) = (self.paused.clone(), self.former_names.clone());
        let stream = async_stream::try_stream! {
            let mut session = Session::default();
            let mut waiting: Option<(String, Verdict)> = None;
            loop {
                if waiting.is_none() {
                    let former_names = former_names.load(Ordering::Relaxed);
                    let next = match paused.load(Ordering::Relaxed) {
                        true => None,
                        false => session.next(&set.borrow_and_update(), former_names),
                    };
                    if let Some((response, verdict)) = next {
                        waiting = Some((response.nonce.clone(), verdict));
                        yield response;
                    }
                }
                tokio::select! {
                    changed = set.changed() => if changed.is_err() { return },
                    request = requests.next() => {
                        let Some(Ok(request)) = request else { return };
                        session.ask(&request);
                        let answered = waiting.take_if(|(n, _)| *n == request.response_nonce);
                        if let Some((_, mut verdict)) = answered {
                            verdict.refused = request.error_detail.map(|detail| detail.message);
                            session.answered(&verdict);
                            let _ = verdicts.send(verdict);
                        }
                    }
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }
}

#[tonic::async_trait]
impl auth::authorization_server::Authorization for Stub {
    async fn check(
        &self,
        request: Request<auth::CheckRequest>,
    ) -> Result<Response<auth::CheckResponse>, Status> {
        if self.door_broken.load(Ordering::Relaxed) {
            return Err(Status::unavailable("broken"));
        }
        let attributes = request.into_inner().attributes.unwrap();
        let http = attributes.request.unwrap().http.unwrap();
        let mut seen = told(&attributes.context_extensions);
        seen.extend(http.headers.iter().map(|(k, v)| (format!("header:{k}"), v.clone())));
        self.checks.lock().unwrap().push(seen);
        let good = http.headers.get("x-api-key").is_some_and(|key| key == "good");
        let parameter = http.headers.get("x-probe-key").filter(|name| !name.is_empty()).cloned();
        Ok(Response::new(if good { allowed(parameter) } else { denied() }))
    }
}

/// What a route tells the agent, in parts. Its rules name the publish: see `fixtures::parsed`.
fn told(context: &HashMap<String, String>) -> BTreeMap<String, String> {
    let keys: Vec<_> = context.keys().map(String::as_str).collect();
    assert_eq!(keys, ["route"], "one entry says it all");
    let [access, route, base]: [&str; 3] =
        context["route"].splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
    let publish = access.split('@').next().unwrap();
    let parts = [("access", access), ("route", route), ("base_path", base), ("publish", publish)];
    parts.map(|(key, part)| (key.to_owned(), part.to_owned())).into()
}

fn option(key: &str, value: &str) -> HeaderValueOption {
    let header = HeaderValue { key: key.into(), value: value.into(), ..Default::default() };
    HeaderValueOption { header: Some(header), append_action: 2, ..Default::default() }
}

/// Removes the query parameter of this name.
fn allowed(parameter: Option<String>) -> auth::CheckResponse {
    auth::CheckResponse {
        status: Some(RpcStatus::default()),
        http_response: Some(auth::check_response::HttpResponse::OkResponse(auth::OkHttpResponse {
            headers: vec![option("x-imp-consumer", "c1")],
            query_parameters_to_remove: parameter.into_iter().collect(),
            ..Default::default()
        })),
        ..Default::default()
    }
}

fn denied() -> auth::CheckResponse {
    auth::CheckResponse {
        status: Some(RpcStatus { code: 16, ..Default::default() }),
        http_response: Some(auth::check_response::HttpResponse::DeniedResponse(
            auth::DeniedHttpResponse {
                status: Some(HttpStatus { code: 401 }),
                headers: vec![option("content-type", "application/problem+json")],
                body: r#"{"code":"unauthenticated"}"#.into(),
            },
        )),
        ..Default::default()
    }
}
