//! The format of a golden input: a gateway and publishes in a short form. Omitted parts are as in
//! the smallest publish: one route "/" to one backend, at one host.

mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imp_proto::config::{self as pb, path_match, policy, value_match};
use imp_translate::Layout;
use serde::Deserialize;

use crate::fixtures::{self, GATEWAY};
use settings::Settings;

/// Where the inputs and their outputs are.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Case {
    pub(super) shows: Vec<Shown>,
    layout: LayoutName,
    settings: Edge,
    publishes: Vec<Publish>,
}

/// The settings of the gateway.
#[derive(Clone, Copy, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Edge {
    escaped_slash: i32,
    underscore_headers: i32,
    refuse_http10: bool,
    trusted_hops: u32,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            shows: vec![Shown::Scopes],
            layout: LayoutName::Scoped,
            settings: Edge::default(),
            publishes: Vec::new(),
        }
    }
}

/// Which of the rendered resources are in the output.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Shown {
    Listeners,
    Clusters,
    Scopes,
    Routes,
    Extensions,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LayoutName {
    Scoped,
    WholeRds,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Publish {
    id: String,
    hostnames: Vec<String>,
    base_path: String,
    auth_mode: String,
    suspended: bool,
    policies: Vec<Policy>,
    services: Vec<Service>,
}

impl Default for Publish {
    fn default() -> Self {
        Self {
            id: "p1".into(),
            hostnames: vec!["api.example.com".into()],
            base_path: "/".into(),
            auth_mode: "api_key".into(),
            suspended: false,
            policies: Vec::new(),
            services: vec![Service::default()],
        }
    }
}

/// One of the kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    id: String,
    request_headers: Option<Headers>,
    response_headers: Option<Headers>,
    ip_access: Option<IpAccess>,
    cors: Option<Cors>,
    rate_limit: Option<RateLimit>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Headers {
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct IpAccess {
    allow: Vec<String>,
    deny: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Cors {
    allow_origins: Vec<String>,
    allow_methods: Vec<String>,
    allow_headers: Vec<String>,
    expose_headers: Vec<String>,
    max_age_seconds: Option<u32>,
    allow_credentials: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    requests: u64,
    window_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Service {
    id: String,
    backends: Vec<Backend>,
    routes: Vec<Route>,
}

impl Default for Service {
    fn default() -> Self {
        let routes = vec![Route::default()];
        Self { id: "s1".into(), backends: vec![Backend::default()], routes }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Backend {
    id: String,
    endpoints: Vec<Endpoint>,
    protocol: String,
    lb_policy: String,
    connect_timeout_ms: u32,
    settings: Settings,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            id: "b1".into(),
            endpoints: vec![Endpoint::default()],
            protocol: "PROTOCOL_UNSPECIFIED".into(),
            lb_policy: "LB_POLICY_UNSPECIFIED".into(),
            connect_timeout_ms: 0,
            settings: Settings::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Endpoint {
    host: String,
    port: u32,
    weight: u32,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), port: 9000, weight: 1 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Route {
    id: String,
    path: PathKind,
    methods: Vec<String>,
    headers: BTreeMap<String, Rule>,
    query: BTreeMap<String, Rule>,
    priority: i32,
    backends: BTreeMap<String, u32>,
    rewrite: Option<Rewrite>,
    timeout_ms: u32,
    stream: bool,
    idle_timeout_ms: u32,
    upgrades: Vec<String>,
    /// Ids of the publish's policies.
    policies: Vec<String>,
}

impl Default for Route {
    fn default() -> Self {
        Self {
            id: "r1".into(),
            path: PathKind::Prefix("/".into()),
            methods: Vec::new(),
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            priority: 0,
            backends: BTreeMap::from([("b1".into(), 1)]),
            rewrite: None,
            timeout_ms: 0,
            stream: false,
            idle_timeout_ms: 0,
            upgrades: Vec::new(),
            policies: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum PathKind {
    Exact(String),
    Prefix(String),
    Template(String),
    Regex(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Exact(String),
    Prefix(String),
    Regex(String),
    Present(bool),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Rewrite {
    path: String,
    host: String,
    strip_base_path: bool,
}

impl Case {
    /// The input of this name.
    pub(super) fn read(name: &str) -> Self {
        let path = folder().join(format!("in/{name}.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(super) fn shows_listeners(&self) -> bool {
        self.shows.iter().any(|shown| matches!(shown, Shown::Listeners))
    }

    pub(super) fn layout(&self) -> Layout {
        match self.layout {
            LayoutName::Scoped => Layout::ScopedRoutes,
            LayoutName::WholeRds => Layout::WholeRds,
        }
    }

    pub(super) fn gateway(&self, port: u16) -> pb::Gateway {
        let Edge { escaped_slash, underscore_headers, refuse_http10, trusted_hops } = self.settings;
        let settings =
            pb::GatewaySettings { escaped_slash, underscore_headers, refuse_http10, trusted_hops };
        pb::Gateway { settings: Some(settings), ..fixtures::gateway(port) }
    }

    pub(super) fn publishes(&self) -> Vec<pb::Publish> {
        self.publishes.iter().map(Publish::message).collect()
    }
}

impl Publish {
    fn message(&self) -> pb::Publish {
        let auth_mode = self.auth_mode.to_uppercase();
        pb::Publish {
            id: self.id.clone(),
            tenant_id: "t1".into(),
            gateway_id: GATEWAY.into(),
            hostnames: self.hostnames.clone(),
            base_path: self.base_path.clone(),
            auth_mode: pb::publish::AuthMode::from_str_name(&auth_mode).unwrap().into(),
            suspended: self.suspended,
            revision: 1,
            policies: self.policies.iter().map(Policy::message).collect(),
            api_services: self.services.iter().map(|it| it.message(&self.policies)).collect(),
            ..Default::default()
        }
    }
}

impl Policy {
    fn message(&self) -> pb::Policy {
        use policy::Kind;
        let kinds = [
            self.request_headers.as_ref().map(|it| Kind::RequestHeaders(it.message())),
            self.response_headers.as_ref().map(|it| Kind::ResponseHeaders(it.message())),
            self.ip_access.as_ref().map(|IpAccess { allow, deny }| {
                Kind::IpAccess(pb::IpAccess { allow: allow.clone(), deny: deny.clone() })
            }),
            self.cors.as_ref().map(|it| Kind::Cors(it.message())),
            self.rate_limit.as_ref().map(|&RateLimit { requests, window_seconds }| {
                Kind::RateLimit(pb::RateLimit { requests, window_seconds })
            }),
        ];
        let [kind] = kinds.into_iter().flatten().collect::<Vec<_>>().try_into().unwrap();
        pb::Policy { id: self.id.clone(), kind: Some(kind) }
    }
}

impl Headers {
    fn message(&self) -> pb::Headers {
        let pairs = |list: &[(String, String)]| {
            list.iter().map(|(name, value)| fixtures::header(name, value)).collect()
        };
        let remove = self.remove.clone();
        pb::Headers { set: pairs(&self.set), add: pairs(&self.add), remove }
    }
}

impl Cors {
    fn message(&self) -> pb::Cors {
        pb::Cors {
            allow_origins: self.allow_origins.clone(),
            allow_methods: self.allow_methods.clone(),
            allow_headers: self.allow_headers.clone(),
            expose_headers: self.expose_headers.clone(),
            max_age_seconds: self.max_age_seconds,
            allow_credentials: self.allow_credentials,
        }
    }
}

impl Service {
    fn message(&self, policies: &[Policy]) -> pb::ApiService {
        pb::ApiService {
            id: self.id.clone(),
            name: self.id.clone(),
            routes: self.routes.iter().map(|route| route.message(policies)).collect(),
            backends: self.backends.iter().map(Backend::message).collect(),
            ..Default::default()
        }
    }
}

impl Backend {
    fn message(&self) -> pb::Backend {
        use pb::backend::{LbPolicy, Protocol};
        let endpoint = |Endpoint { host, port, weight }: &Endpoint| pb::Endpoint {
            host: host.clone(),
            port: *port,
            weight: *weight,
        };
        pb::Backend {
            id: self.id.clone(),
            name: self.id.clone(),
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            protocol: Protocol::from_str_name(&self.protocol).unwrap().into(),
            lb_policy: LbPolicy::from_str_name(&self.lb_policy).unwrap().into(),
            connect_timeout_ms: self.connect_timeout_ms,
            ..self.settings.message()
        }
    }
}

impl Route {
    fn message(&self, policies: &[Policy]) -> pb::Route {
        let path = match self.path {
            PathKind::Exact(ref path) => path_match::Kind::Exact(path.clone()),
            PathKind::Prefix(ref path) => path_match::Kind::Prefix(path.clone()),
            PathKind::Template(ref path) => path_match::Kind::Template(path.clone()),
            PathKind::Regex(ref regex) => path_match::Kind::Regex(regex.clone()),
        };
        let place = |id: &String| {
            let place = policies.iter().position(|policy| policy.id == *id);
            u32::try_from(place.unwrap_or_else(|| panic!("no policy {id}"))).unwrap()
        };
        let weighted = |(id, weight): (&String, &u32)| pb::WeightedBackend {
            backend_id: id.clone(),
            weight: *weight,
        };
        let rewrite = |Rewrite { path, host, strip_base_path }: &Rewrite| pb::Rewrite {
            path: path.clone(),
            host: host.clone(),
            strip_base_path: *strip_base_path,
        };
        pb::Route {
            methods: self.methods.clone(),
            headers: self.headers.iter().map(rule).collect(),
            query: self.query.iter().map(rule).collect(),
            priority: self.priority,
            backends: self.backends.iter().map(weighted).collect(),
            rewrite: self.rewrite.as_ref().map(rewrite),
            timeout_ms: self.timeout_ms,
            stream: self.stream,
            idle_timeout_ms: self.idle_timeout_ms,
            upgrades: self.upgrades.clone(),
            policy_indexes: self.policies.iter().map(place).collect(),
            ..fixtures::route(&self.id, path)
        }
    }
}

fn rule((name, rule): (&String, &Rule)) -> pb::ValueMatch {
    use value_match::Kind;
    let kind = match rule {
        Rule::Exact(value) => Kind::Exact(value.clone()),
        Rule::Prefix(value) => Kind::Prefix(value.clone()),
        Rule::Regex(regex) => Kind::Regex(regex.clone()),
        Rule::Present(present) => Kind::Present(*present),
    };
    fixtures::value(name, kind)
}
