//! What a publish and a gateway are. Values cannot be malformed: only `parse` makes them.

use std::sync::Arc;

use imp_grammar::hosts::EndpointHost;
use imp_grammar::path::Pattern;

use super::policy::Policies;
use super::settings::Settings;

/// A gateway: where Envoy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Names its scopes and listeners.
    pub id: String,
    /// At least one; names and ports are distinct.
    pub listeners: Vec<Listener>,
    /// What its listeners do to each call.
    pub edge: Edge,
}

/// What a listener does to each call before it looks for a route. The default is what a gateway does
/// that says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    /// What becomes of `%2F` in a path.
    pub escaped_slash: EscapedSlash,
    /// Refuses headers with `_` in their names.
    pub refuse_underscores: bool,
    /// Refuses HTTP/1.0.
    pub refuse_http10: bool,
    /// Proxies in front that may say who calls.
    pub trusted_hops: u32,
}

/// What becomes of `%2F` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EscapedSlash {
    /// The call is refused.
    #[default]
    Refuse,
    /// It is a character of its segment.
    Keep,
    /// It is a slash, for the route and the upstream.
    Decode,
}

/// A port that speaks plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique in the gateway.
    pub name: String,
    /// Never 0.
    pub port: u16,
    /// Only this host is served here; any when absent.
    pub hostname: Option<String>,
}

/// One revision of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Its id.
    pub id: String,
    /// The gateway that it is on.
    pub gateway_id: String,
    /// Its owner.
    pub tenant_id: String,
    /// What it publishes.
    pub product_id: String,
    /// Where: `prod`, `test`.
    pub environment: String,
    /// How callers prove who they are. Not xDS' matter: the agent decides.
    pub auth_mode: AuthMode,
    /// Which revision.
    pub revision: u64,
    /// Exact, canonical and distinct; at least one.
    pub hostnames: Vec<String>,
    /// "/" or "/a/b".
    pub base_path: String,
    /// Answers 503 to everyone.
    pub suspended: bool,
    /// Names the access rules that its calls are judged by; empty: by all that the engine knows of the
    /// publish. The rules are the engine's, so [`Publish::parse`] leaves it empty.
    pub access: String,
    /// Of all its services, in the order in which Envoy must try them.
    pub routes: Vec<Route>,
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Public.
    None,
    /// A key.
    ApiKey,
    /// A way that this agent does not know: nobody passes.
    Unsupported,
}

/// Which calls go where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its id.
    pub id: String,
    /// Relative to the base path.
    pub path: PathMatch,
    /// The same, read.
    pub pattern: Pattern,
    /// Any method when empty.
    pub methods: Vec<String>,
    /// All must match.
    pub headers: Vec<ValueMatch>,
    /// All must match.
    pub query: Vec<ValueMatch>,
    /// Higher first.
    pub priority: i32,
    /// At least one; no weight is 0.
    pub backends: Vec<WeightedBackend>,
    /// What the upstream sees as path; with variables of the route's own.
    pub rewrite_path: Option<String>,
    /// The upstream sees the path without the base path; `rewrite_path` is absent then.
    pub strip_base_path: bool,
    /// What the upstream sees as host.
    pub rewrite_host: Option<String>,
    /// Milliseconds; never 0. Streams have none.
    pub timeout_ms: u32,
    /// Calls last as long as they say something.
    pub stream: Option<Stream>,
    /// All that apply, as the control plane resolved them.
    pub policies: Policies,
}

/// Calls without a total limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Silence that ends one, milliseconds; never 0.
    pub idle_ms: u32,
    /// What they may upgrade to.
    pub upgrades: Vec<String>,
}

/// One way to match a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Whole segments.
    Prefix(String),
    /// Literal text and `{name}`s.
    Template(String),
    /// RE2, over the whole path.
    Regex(String),
}

/// Matches one header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueMatch {
    /// Lower case for headers.
    pub name: String,
    /// How its value must be.
    pub rule: ValueRule,
}

/// One way to match a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueRule {
    /// Equal.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// RE2, over the whole value.
    Regex(String),
    /// There, or not there.
    Present(bool),
}

/// A backend and its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend {
    /// Shared between routes.
    pub backend: Arc<Backend>,
    /// Among the route's weights; their sum fits 32 bits.
    pub weight: u32,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Speaks HTTP/2; without TLS by prior knowledge.
    pub http2: bool,
    /// How endpoints are chosen.
    pub balance: Balance,
    /// Milliseconds; never 0.
    pub connect_timeout_ms: u32,
    /// Retries, ejection, checks, TLS.
    pub settings: Settings,
}

/// How endpoints are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    RoundRobin,
    /// The least busy of two.
    LeastRequest,
    /// Any.
    Random,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub host: EndpointHost,
    /// Never 0.
    pub port: u16,
    /// Never 0.
    pub weight: u32,
}
