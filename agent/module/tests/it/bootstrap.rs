//! The bootstrap of the tests' Envoy: two listeners with the same routes, the one with the module in
//! the door's place, the other with the agent's ext_authz service.

use std::path::Path;

use serde_json::{Value, json};

const TYPE: &str = "type.googleapis.com/envoy.extensions";

pub(crate) fn address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

pub(crate) fn module(library: &Path) -> Value {
    json!({"module": {"local": {"filename": library}}, "do_not_close": true})
}

fn text(value: &Value) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value.to_string()})
}

/// The module's filter.
pub(crate) fn door(library: &Path, name: &str, config: &Value) -> Value {
    json!({"name": "imp.door", "typed_config": {
        "@type": format!("{TYPE}.filters.http.dynamic_modules.v3.DynamicModuleFilter"),
        "dynamic_module_config": module(library), "filter_name": name, "filter_config": text(config)}})
}

/// The agent's filter, as it is rendered for Envoys (`agent/translate/src/xds/door.rs`).
pub(crate) fn ext_authz() -> Value {
    let headers =
        ["x-api-key", "x-imp-host", "apikey", "authorization", "content-type", "x-request-id"]
            .map(|name| json!({"exact": name, "ignore_case": true}));
    json!({"name": "imp.door", "typed_config": {
        "@type": format!("{TYPE}.filters.http.ext_authz.v3.ExtAuthz"),
        "grpc_service": {"envoy_grpc": {"cluster_name": "agent"}, "timeout": "5s"},
        "transport_api_version": "V3", "status_on_error": {"code": 503},
        "allowed_headers": {"patterns": headers}}})
}

/// The extension that writes the key of the scope, after one that removes what callers wrote.
pub(crate) fn scope_key(library: &Path, config: &Value) -> Value {
    let strip = json!({"name": "strip", "typed_config": {
        "@type": format!("{TYPE}.http.early_header_mutation.header_mutation.v3.HeaderMutation"),
        "mutations": [{"remove_on_match": {"key_matcher": {"prefix": "x-imp-", "ignore_case": true}}}]}});
    let host = json!({"name": "host", "typed_config": {
        "@type": format!("{TYPE}.http.early_header_mutation.dynamic_modules.v3.DynamicModuleEarlyHeaderMutation"),
        "dynamic_module_config": module(library),
        "early_header_mutation_name": "host", "early_header_mutation_config": text(config)}});
    json!([strip, host])
}

/// A route that says of which publish it is, to both doors.
pub(crate) fn route(path: &str, publish: &str, access: &str) -> Value {
    saying(
        path,
        &json!({"publish": publish, "route": format!("{publish}-route"), "access": access}),
    )
}

/// A route as it is rendered for shared tables: the publish is found by its place.
fn placed(path: &str, base_path: &str, keys: &str) -> Value {
    let text = format!("{} placed-route {base_path}", crate::fixtures::digest("placed"));
    let mut said = json!({"route": text});
    if !keys.is_empty() {
        said["keys"] = json!(keys);
    }
    saying(path, &said)
}

fn saying(path: &str, said: &Value) -> Value {
    json!({"match": {"path_separated_prefix": path}, "route": {"cluster": "upstream"},
        "metadata": {"filter_metadata": {"imp.door": said}},
        "typed_per_filter_config": {"imp.door": per_route(said)}})
}

fn per_route(said: &Value) -> Value {
    json!({"@type": format!("{TYPE}.filters.http.ext_authz.v3.ExtAuthzPerRoute"),
        "check_settings": {"context_extensions": said}})
}

/// The routes of every publish of the fixtures, and some that are nobody's.
pub(crate) fn routes() -> Vec<Value> {
    let mut routes: Vec<Value> = ["closed", "open", "suspended", "elsewhere", "newer", "nothing"]
        .map(|publish| route(&format!("/{publish}"), publish, ""))
        .into();
    // A route of a revision that asked for a key, of a publish that is open by now.
    routes.push(route("/was-closed", "open", "api_key.0123456789abcdef"));
    routes.push(
        json!({"match": {"path_separated_prefix": "/nobodys"}, "route": {"cluster": "upstream"}}),
    );
    routes.extend([
        placed("/placed", "/placed", ""),
        placed("/placed-keys", "/placed", "apikey?key"),
        placed("/placed-bearer", "/placed", "authorization?"),
        // Nobody is there.
        placed("/unplaced", "/elsewhere", "apikey?key"),
        saying("/unclear", &json!({"route": "placed-route", "keys": "apikey?key"})),
    ]);
    // Switched off, whichever filter decides: nothing is asked.
    let mut off = route("/off", "closed", "");
    off["typed_per_filter_config"]["imp.door"] = json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true});
    routes.push(off);
    let mut direct = route("/direct", "closed", "");
    direct.as_object_mut().unwrap().remove("route");
    direct["direct_response"] =
        json!({"status": 418, "body": {"inline_string": "short and stout"}});
    routes.push(direct);
    routes
}

/// What the product's listener makes of Envoy's own answers to a call without a route and to one
/// about which the agent does not know (`agent/translate/src/xds/listener/refusals.rs`).
fn own_answers() -> Value {
    let no_route = json!({"response_flag_filter": {"flags": ["NR"]}});
    let no_answer = json!({"extension_filter": {"name": "cel", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
        "expression": "response.code_details == 'ext_authz_error'"}}});
    let no_route = own_answer(&no_route, ("no_route", "No such route"), &[]);
    let retry = [("retry-after", "1")];
    let unavailable = ("enforcement_unavailable", "Try again later");
    let no_answer = own_answer(&no_answer, unavailable, &retry);
    let mappers = [no_route, no_answer].concat();
    json!({ "mappers": mappers })
}

/// For gRPC and for others.
fn own_answer(when: &Value, (code, title): (&str, &str), more: &[(&str, &str)]) -> Vec<Value> {
    let grpc = json!({"header_filter": {"header": {"name": "content-type", "string_match":
        {"safe_regex": {"regex": "application/grpc(?:\\+.*)?"}}}}});
    let id = [("x-request-id", "%REQ(X-REQUEST-ID)%")];
    let headers: Vec<_> = id.iter().chain(more).map(|(key, value)| {
        json!({"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"})
    }).collect();
    let text = json!({"text_format_source": {"inline_string": format!("{code}: {title}")}});
    let document = json!({
        "content_type": "application/problem+json",
        "json_format": {"type": "about:blank", "title": title, "status": "%RESPONSE_CODE%",
            "code": code, "request_id": "%RESP(X-REQUEST-ID)%"}});
    vec![
        json!({"filter": {"and_filter": {"filters": [grpc, when]}}, "body_format_override": text,
            "headers_to_add": headers}),
        json!({"filter": when, "body_format_override": document, "headers_to_add": headers}),
    ]
}

/// The last filter.
pub(crate) fn router() -> Value {
    json!({"name": "router", "typed_config": {"@type": format!("{TYPE}.filters.http.router.v3.Router")}})
}

/// A limit of 1 MiB for bodies.
pub(crate) fn buffer() -> Value {
    json!({"name": "size", "typed_config": {"@type": format!("{TYPE}.filters.http.buffer.v3.Buffer"),
        "max_request_bytes": 1_048_576}})
}

/// A listener with these filters.
pub(crate) fn listener(port: u16, door: Value, more: &Value) -> Value {
    let mut manager = json!({
        "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": format!("port_{port}"),
        "normalize_path": true,
        "generate_request_id": true,
        "always_set_request_id_in_response": true,
        "local_reply_config": own_answers(),
        "access_log": [{"name": "details", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
            "log_format": {"text_format_source": {"inline_string": "DETAILS %RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n"}}}}],
        "http_filters": [door, router()],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes()}]},
    });
    let manager_fields = manager.as_object_mut().unwrap();
    for (key, value) in more.as_object().unwrap() {
        manager_fields.insert(key.clone(), value.clone());
    }
    if more.get("scoped_routes").is_some() {
        manager_fields.remove("route_config");
    }
    let filter = json!({"name": "hcm", "typed_config": manager});
    json!({"name": format!("port-{port}"), "address": address(port), "filter_chains": [{"filters": [filter]}]})
}

fn cluster(name: &str, port: u16, http2: bool) -> Value {
    let mut cluster = json!({"name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(port)}}]}]}});
    if http2 {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    cluster
}

/// A bootstrap with these listeners.
pub(crate) fn bootstrap(listeners: &[Value], upstream: u16, agent: u16) -> Value {
    json!({
        "node": {"id": "test", "cluster": "all"},
        "static_resources": {
            "listeners": listeners,
            "clusters": [cluster("upstream", upstream, false), cluster("agent", agent, true)],
        },
    })
}

/// The door by ECDS, from a file: either of the two.
pub(crate) fn discovered(file: &Path) -> Value {
    let types = ["dynamic_modules.v3.DynamicModuleFilter", "ext_authz.v3.ExtAuthz"];
    let types = types.map(|name| format!("{TYPE}.filters.http.{name}"));
    json!({"name": "imp.door", "config_discovery": {
        "config_source": {"path_config_source": {"path": file}, "initial_fetch_timeout": "1s",
            "resource_api_version": "V3"},
        "type_urls": types}})
}

pub(crate) fn write_extension(file: &Path, door: &Value) {
    let mut resource = door.clone();
    resource["@type"] = json!("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    let draft = file.with_extension("new");
    std::fs::write(&draft, json!({"resources": [resource]}).to_string()).unwrap();
    std::fs::rename(draft, file).unwrap();
}
