//! The bootstrap of an Envoy with one door: a listener in clear and one with TLS, a route that Envoy
//! answers itself and one to the upstream.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::Door;
use super::contents::{Contents, key};
use super::tls::Identity;

const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// Keys that `api_key_auth` is configured with at most: more are a bootstrap of gigabytes.
pub(super) const KEYS_IN_CONFIGURATION: usize = 100_000;

/// Where things are.
pub(super) struct Places<'a> {
    pub(super) library: &'a Path,
    pub(super) directory: &'a Path,
    pub(super) upstream: SocketAddr,
    pub(super) clear: u16,
    pub(super) tls: u16,
}

/// Routes that Envoy answers itself, and that lead to the upstream.
pub(super) const DIRECT: &str = "/direct";
pub(super) const UPSTREAM: &str = "/upstream";

pub(super) fn bootstrap(
    door: Door,
    contents: &Contents,
    places: &Places<'_>,
    identity: &Identity,
) -> Value {
    let listeners = [
        listener(places.clear, filters(door, contents, places), None),
        listener(places.tls, filters(door, contents, places), Some(identity)),
    ];
    let pipe = |name: &str| json!({"pipe": {"path": places.directory.join(name)}});
    let upstream = address(places.upstream.port());
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": pipe("admin.sock")},
        "static_resources": {
            "listeners": listeners,
            "clusters": [cluster("upstream", &upstream, false),
                cluster("agent", &pipe("agent.sock"), true)],
        },
    })
}

fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn filters(door: Door, contents: &Contents, places: &Places<'_>) -> Vec<Value> {
    let door = match door {
        Door::None => None,
        Door::Module | Door::Beside(_) => Some(module(places)),
        Door::ExtAuthz => Some(ext_authz()),
        Door::ApiKeyAuth => Some(api_key_auth(contents)),
    };
    let router = json!({"name": "router", "typed_config": {
        "@type": format!("{TYPE}.filters.http.router.v3.Router")}});
    door.into_iter().chain([router]).collect()
}

/// As the agent renders it.
fn module(places: &Places<'_>) -> Value {
    let path = |name: &str| places.directory.join(name);
    let state = json!({"snapshot": path("snapshot"), "feed": path("feed.sock"),
        "counters": path("counters")});
    let config = json!({"state": state}).to_string();
    json!({"name": "imp.door", "typed_config": {
        "@type": format!("{TYPE}.filters.http.dynamic_modules.v3.DynamicModuleFilter"),
        "dynamic_module_config": {
            "module": {"local": {"filename": places.library}}, "do_not_close": true},
        "filter_name": "door",
        "filter_config": {"@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": config}}})
}

/// As the agent renders it, without its retries.
fn ext_authz() -> Value {
    let exact = ["x-api-key", "x-imp-host", "authorization", "content-type", "x-request-id"]
        .map(|name| json!({"exact": name, "ignore_case": true}));
    json!({"name": "imp.door", "typed_config": {
        "@type": format!("{TYPE}.filters.http.ext_authz.v3.ExtAuthz"),
        "grpc_service": {"envoy_grpc": {"cluster_name": "agent"}, "timeout": "5s"},
        "transport_api_version": "V3", "status_on_error": {"code": 503},
        "allowed_headers": {"patterns": exact}}})
}

fn api_key_auth(contents: &Contents) -> Value {
    let credentials: Vec<Value> = (0..contents.keys.min(KEYS_IN_CONFIGURATION))
        .map(|number| json!({"key": key(number), "client": format!("client-{number}")}))
        .collect();
    json!({"name": "api_key_auth", "typed_config": {
        "@type": format!("{TYPE}.filters.http.api_key_auth.v3.ApiKeyAuth"),
        "credentials": credentials,
        "key_sources": [{"header": "x-api-key"}],
        "forwarding": {"header": "x-imp-consumer", "hide_credentials": true}}})
}

fn listener(port: u16, filters: Vec<Value>, tls: Option<&Identity>) -> Value {
    let said = json!({"route": Contents::route()});
    let route = |path: &str, action: (&str, Value)| {
        let mut route = json!({"match": {"path": path},
            "metadata": {"filter_metadata": {"imp.door": said}},
            "typed_per_filter_config": {"imp.door": {
                "@type": format!("{TYPE}.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
                "check_settings": {"context_extensions": said}}}});
        route[action.0] = action.1;
        route
    };
    let answer = json!({"status": 200, "body": {"inline_string": "ok"}});
    let routes = [
        route(DIRECT, ("direct_response", answer)),
        route(UPSTREAM, ("route", json!({"cluster": "upstream"}))),
    ];
    let manager = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": format!("port_{port}"),
        "codec_type": "AUTO",
        "normalize_path": true,
        "generate_request_id": true,
        "always_set_request_id_in_response": true,
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    });
    let mut chain = json!({"filters": [{"name": "hcm", "typed_config": manager}]});
    if let Some(identity) = tls {
        chain["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": format!("{TYPE}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {"tls_certificates": [{
                "certificate_chain": {"inline_string": identity.certificate},
                "private_key": {"inline_string": identity.key}}]}}});
    }
    json!({"name": format!("port-{port}"), "address": address(port), "filter_chains": [chain]})
}

fn cluster(name: &str, address: &Value, http2: bool) -> Value {
    let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address}}]}]}});
    if http2 {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    cluster
}
