//! The types of publishes and gateways. Values are always well-formed, because only `parse` creates
//! them.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use imp_grammar::hosts::EndpointHost;
use imp_grammar::path::Pattern;

use super::policy::Policies;
use super::settings::Settings;

/// A gateway: its listeners.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// Part of the names of its scopes and listeners.
    pub id: String,
    /// At least one; names and ports are distinct.
    pub listeners: Vec<Listener>,
    /// What its listeners do to each call.
    pub edge: Edge,
    /// The class of its data plane, in the API's word.
    pub class: String,
}

/// What a listener does to each call before routing. The default is that of a gateway without
/// settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Edge {
    /// How `%2F` in a path is handled.
    pub escaped_slash: EscapedSlash,
    /// Whether headers with `_` in their names are refused.
    pub refuse_underscores: bool,
    /// Whether HTTP/1.0 is refused.
    pub refuse_http10: bool,
    /// The number of proxies in front that may report the caller's address.
    pub trusted_hops: u32,
}

/// How `%2F` in a path is handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EscapedSlash {
    /// Refuse the call.
    #[default]
    Refuse,
    /// Treat it as a character of its segment.
    Keep,
    /// Decode it to a slash, for routing and for the upstream.
    Decode,
}

/// A port that speaks plain HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Listener {
    /// Unique in the gateway.
    pub name: String,
    /// Never 0.
    pub port: u16,
    /// The only host served here; any when absent.
    pub hostname: Option<String>,
}

/// One revision of a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    pub id: Arc<str>,
    pub revision: u64,
    /// Canonical and distinct; at least one. `*.` and a name stand for what is below it, `*` for every
    /// host.
    pub hostnames: Vec<Arc<str>>,
    /// Hosts that its wildcards do not take, in the same grammar: they are other tenants'.
    pub kept_out: Vec<Arc<str>>,
    pub(super) content: Arc<Content>,
}

/// What publishes share that differ in their ids, revisions and hosts only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Content {
    pub gateway_id: String,
    pub tenant_id: String,
    pub product_id: String,
    /// The environment: `prod`, `test`.
    pub environment: String,
    /// How callers authenticate. Not used for xDS: the agent decides.
    pub auth_mode: AuthMode,
    /// "/" or "/a/b".
    pub base_path: String,
    /// Answers 503 to everyone.
    pub suspended: bool,
    /// How it reaches the gateway.
    pub delivery: Delivery,
    /// The digest of the access rules for its calls; if empty, all rules that the engine knows of
    /// the publish apply. The engine computes it, so [`Publish::parse`] leaves it empty.
    pub access: String,
    /// Where callers may send their key besides the usual header: a header, `?`, a query parameter.
    /// Empty if nowhere.
    pub keys: String,
    /// The routes of all its services, in the order in which Envoy must try them.
    pub routes: Vec<Route>,
    /// Its hash, once that was needed.
    pub(crate) hashed: Hashed,
}

impl Deref for Publish {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

/// Changes the content of this publish alone.
impl DerefMut for Publish {
    fn deref_mut(&mut self) -> &mut Content {
        let content = Arc::make_mut(&mut self.content);
        content.hashed = Hashed::default();
        content
    }
}

/// A hash that is computed once. It is no part of what it is a hash of.
#[derive(Default)]
pub(crate) struct Hashed(OnceLock<[u8; 16]>);

impl Hashed {
    pub(crate) fn get_or(&self, hash: impl FnOnce() -> [u8; 16]) -> [u8; 16] {
        *self.0.get_or_init(hash)
    }
}

impl Clone for Hashed {
    /// A copy may be changed.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Hashed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hashed {}

impl Hash for Hashed {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl fmt::Debug for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// How a publish reaches its gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As the class of the gateway is served.
    #[default]
    Auto,
    Xds,
    GatewayApi,
}

/// Names of tables are hashes of contents, and it is in no table.
impl Hash for Delivery {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// How callers authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMode {
    /// No authentication.
    None,
    /// A key.
    ApiKey,
    /// A mode that this agent does not know: every call is refused.
    Unsupported,
}

/// Which calls go to which backends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub id: String,
    /// Relative to the base path.
    pub path: PathMatch,
    /// The parsed path.
    pub pattern: Pattern,
    /// Any method when empty.
    pub methods: Vec<String>,
    /// Conditions on headers; all must match.
    pub headers: Vec<ValueMatch>,
    /// Conditions on query parameters; all must match.
    pub query: Vec<ValueMatch>,
    /// Higher priorities are tried first.
    pub priority: i32,
    /// At least one; no weight is 0.
    pub backends: Vec<WeightedBackend>,
    /// The path for the upstream, with variables of the route's path.
    pub rewrite_path: Option<String>,
    /// Whether the base path is removed for the upstream; `rewrite_path` is absent then.
    pub strip_base_path: bool,
    /// The host for the upstream.
    pub rewrite_host: Option<String>,
    /// Milliseconds; never 0. Streams have none.
    pub timeout_ms: u32,
    /// Set for calls without a total time limit.
    pub stream: Option<Stream>,
    /// All that apply, as the control plane resolved them.
    pub policies: Policies,
}

/// Calls without a total limit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    /// Milliseconds of silence that end a call; never 0.
    pub idle_ms: u32,
    /// The protocols that calls may upgrade to.
    pub upgrades: Vec<String>,
}

/// How a path is matched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path is equal.
    Exact(String),
    /// Whole segments at the start are equal.
    Prefix(String),
    /// Literal text and `{name}`s.
    Template(String),
    /// RE2, matching the whole path.
    Regex(String),
}

/// Matches one header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ValueMatch {
    /// Lower case for headers.
    pub name: String,
    /// The rule for its value.
    pub rule: ValueRule,
}

/// A rule for a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueRule {
    /// The value is equal.
    Exact(String),
    /// The value begins with this.
    Prefix(String),
    /// RE2, matching the whole value.
    Regex(String),
    /// True: must be present. False: must be absent.
    Present(bool),
}

/// A backend and its share of the calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WeightedBackend {
    /// Shared between routes.
    pub backend: Arc<Backend>,
    /// Relative to the route's other weights; their sum fits 32 bits.
    pub weight: u32,
}

/// An upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    /// Whether it speaks HTTP/2; without TLS by prior knowledge.
    pub http2: bool,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// Milliseconds; never 0.
    pub connect_timeout_ms: u32,
    /// Retries, outlier detection, health checks, TLS.
    pub settings: Settings,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The less busy of two random ones.
    LeastRequest,
    /// A random one.
    Random,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: EndpointHost,
    /// Never 0.
    pub port: u16,
    /// Never 0.
    pub weight: u32,
}
