//! Who may call: the question to the agent, addresses, pages of other origins.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use imp_grammar::origin::Origin;
use serde_json::{Value, json};

use super::deployed::Decider;
use super::duration;
use super::object::{BACKEND, ENVOY_GATEWAY, GATEWAY_API, Owner, SECURITY, set};
use crate::ir::policy::{Cors, IpAccess};
use crate::ir::{self, EndpointHost};
use crate::xds::door::context::KEYS;

/// Keys of the context by which the agent finds publish and rules. The host is no key: there is no
/// listener of ours that would write it.
const PUBLISH: &str = "publish";
const ROUTE: &str = "route";
const ACCESS: &str = "access";

/// The route that rules without limits of their own name.
const ANY_ROUTE: &str = "-";

/// How long a call waits for the agent.
const HOLD_MS: u32 = 5_000;
/// What callers get when the agent does not answer.
const NO_ANSWER: u16 = 503;

/// Whether anybody may call a route without a limit.
pub(super) fn needs_decision(publish: &ir::Content, route: &ir::Route) -> bool {
    publish.auth_mode != ir::AuthMode::None || route.policies.rate_limit.is_some()
}

/// What the rules of a route need besides those of the publish; none if nothing.
pub(super) fn special(
    owner: &Owner<'_>,
    publish: &ir::Publish,
    route: &ir::Route,
) -> Option<Value> {
    let ir::Policies { ip_access, cors, rate_limit, request_headers: _, response_headers: _ } =
        &route.policies;
    if ip_access.is_none() && cors.is_none() && rate_limit.is_none() {
        return None;
    }
    let mut spec = json!({});
    if needs_decision(publish, route) {
        let named = rate_limit.as_ref().map_or(ANY_ROUTE, |_| route.id.as_str());
        set(&mut spec, "extAuth", question(owner, publish, named));
    }
    if let Some(access) = ip_access {
        set(&mut spec, "authorization", authorization(access));
    }
    if let Some(cors) = cors {
        set(&mut spec, "cors", cors_policy(cors));
    }
    Some(spec)
}

/// What every rule of the publish needs that has nothing special.
pub(super) fn floor(owner: &Owner<'_>, publish: &ir::Publish) -> Option<Value> {
    let asks = publish.auth_mode != ir::AuthMode::None;
    asks.then(|| json!({ "extAuth": question(owner, publish, ANY_ROUTE) }))
}

/// A policy for an `HTTPRoute`, or for one of its rules, which then has no other.
pub(super) fn policy(
    owner: &Owner<'_>,
    name: &str,
    route: &str,
    rule: Option<&str>,
    mut spec: Value,
) -> Value {
    set(&mut spec, "targetRefs", json!([target(route, rule)]));
    owner.of_spec(SECURITY, name, spec)
}

/// The reference of a policy to an `HTTPRoute` or a rule of it.
pub(super) fn target(route: &str, rule: Option<&str>) -> Value {
    let mut target = json!({ "group": GATEWAY_API, "kind": "HTTPRoute", "name": route });
    if let Some(rule) = rule {
        set(&mut target, "sectionName", json!(rule));
    }
    target
}

/// What the agent is asked about a call.
fn question(owner: &Owner<'_>, publish: &ir::Publish, route: &str) -> Value {
    let mut said = vec![(PUBLISH, &*publish.id), (ROUTE, route), (ACCESS, publish.access.as_str())];
    if !publish.keys.is_empty() {
        said.push((KEYS, &publish.keys));
    }
    asking(owner, &said)
}

/// Asks the agent with this context.
fn asking(owner: &Owner<'_>, said: &[(&str, &str)]) -> Value {
    let pair =
        |(name, value): &(&str, &str)| json!({ "name": name, "type": "Value", "value": value });
    let context: Vec<_> = said.iter().map(pair).collect();
    json!({
        "grpc": { "backendRefs": [{
            "group": ENVOY_GATEWAY, "kind": "Backend", "name": decider_name(owner), "weight": 1,
        }]},
        "failOpen": false,
        "timeout": duration::of_ms(HOLD_MS),
        "statusOnError": NO_ANSWER,
        "contextExtensions": context,
    })
}

/// Every filter that a publish of the gateway may use, so that the listener has them before the first
/// call: Envoy lets calls on open connections pass by a filter that comes later.
pub(super) fn placeholder(owner: &Owner<'_>, asks: bool) -> Value {
    let nobody = IpAccess { allow: Vec::new(), deny: Vec::new() };
    let mut spec = json!({
        "authorization": authorization(&nobody),
        "cors": { "allowOrigins": ["https://placeholder.invalid"] },
    });
    if asks {
        set(&mut spec, "extAuth", asking(owner, &[(PUBLISH, "-")]));
    }
    spec
}

/// Rules are tried in order.
fn authorization(access: &IpAccess) -> Value {
    let rule = |name: &str, action: &str, nets: &[ipnet::IpNet]| {
        let nets: Vec<_> = nets.iter().map(|net| net.trunc().to_string()).collect();
        json!({ "name": name, "action": action, "principal": { "clientCIDRs": nets } })
    };
    let mut rules = Vec::new();
    if !access.deny.is_empty() {
        rules.push(rule("denied", "Deny", &access.deny));
    }
    if !access.allow.is_empty() {
        rules.push(rule("allowed", "Allow", &access.allow));
    }
    let otherwise = if access.allow.is_empty() { "Allow" } else { "Deny" };
    let mut authorization = json!({ "defaultAction": otherwise });
    if !rules.is_empty() {
        set(&mut authorization, "rules", json!(rules));
    }
    authorization
}

fn origins(cors: &Cors) -> Vec<String> {
    let text = |origin: &Origin| match origin {
        Origin::Any => "*".to_owned(),
        Origin::Exact(text) => text.clone(),
        Origin::Below { scheme, domain } => format!("{scheme}*{domain}"),
    };
    cors.origins.iter().map(text).collect()
}

fn cors_fields(cors: &Cors) -> Value {
    let mut json = json!({
        "allowOrigins": origins(cors),
        "allowMethods": cors.methods,
        "allowCredentials": cors.credentials,
    });
    for (field, list) in [("allowHeaders", &cors.headers), ("exposeHeaders", &cors.exposed)] {
        if !list.is_empty() {
            set(&mut json, field, json!(list));
        }
    }
    json
}

fn cors_policy(cors: &Cors) -> Value {
    let mut json = cors_fields(cors);
    if let Some(seconds) = cors.max_age_seconds {
        set(&mut json, "maxAge", json!(duration::of_ms(seconds.saturating_mul(1_000))));
    }
    json
}

/// The filter of Gateway API itself.
pub(super) fn cors_filter(cors: &Cors) -> Value {
    let mut json = cors_fields(cors);
    // Its default is 5.
    set(&mut json, "maxAge", json!(cors.max_age_seconds.unwrap_or(5)));
    json
}

fn decider_name(owner: &Owner<'_>) -> String {
    format!("imp-{}-agent", super::object::label(owner.gateway))
}

/// The objects by which proxies reach the agent.
pub(super) fn decider(owner: &Owner<'_>, decider: &Decider) -> Vec<Value> {
    use super::object::{BACKEND_TLS, CONFIG_MAP, SECRET};
    let name = decider_name(owner);
    let endpoint = match &decider.host {
        EndpointHost::Address(address) => {
            json!({ "ip": { "address": address.to_string(), "port": decider.port } })
        }
        EndpointHost::Name(host) => json!({ "fqdn": { "hostname": host, "port": decider.port } }),
    };
    let backend = json!({
        "type": "Endpoints",
        "endpoints": [endpoint],
        "tls": { "clientCertificateRef": { "group": "", "kind": "Secret", "name": name } },
    });
    let trust = json!({
        "targetRefs": [{ "group": ENVOY_GATEWAY, "kind": "Backend", "name": name }],
        "validation": {
            "caCertificateRefs": [{ "group": "", "kind": "ConfigMap", "name": name }],
            "hostname": AGENT_NAME,
        },
    });
    vec![
        owner.object(
            SECRET,
            &name,
            json!({ "type": "kubernetes.io/tls", "data": {
                "tls.crt": BASE64.encode(&decider.certificate), "tls.key": BASE64.encode(&decider.key),
            }}),
        ),
        owner.object(CONFIG_MAP, &name, json!({ "data": { "ca.crt": decider.authority } })),
        owner.of_spec(BACKEND_TLS, &name, trust),
        owner.of_spec(BACKEND, &name, backend),
    ]
}

/// The host name in the agent's certificate.
const AGENT_NAME: &str = "imp-agent";
