//! Who may call: the question to the agent, addresses, pages of other origins.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use imp_grammar::origin::Origin;
use serde_json::{Value, json};

use super::deployed::Decider;
use super::duration;
use super::object::{BACKEND, ENVOY_GATEWAY, GATEWAY, GATEWAY_API, OPEN, Owner, SECURITY, set};
use crate::ir::policy::{Cors, IpAccess};
use crate::ir::{self, EndpointHost};

/// How long a call waits for the agent.
const HOLD_MS: u32 = 5_000;
/// What callers get when the agent does not answer.
const NO_ANSWER: u16 = 503;

/// Who stands before the rules of an `HTTPRoute`. They are of one kind: rules that become another kind move to another
/// `HTTPRoute`, so that none is ever under what was enough for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Guard {
    /// Nobody.
    Open,
    /// The agent.
    Asked,
    /// A list of addresses, in a policy of the rule. Before that is there the agent is asked, and knows nothing.
    Judged,
}

impl Guard {
    pub(super) fn of(publish: &ir::Content, route: &ir::Route) -> Self {
        match (needs_decision(publish, route), route.policies.ip_access.is_some()) {
            (true, _) => Self::Asked,
            (false, true) => Self::Judged,
            (false, false) => Self::Open,
        }
    }

    /// The part of the name of an `HTTPRoute`.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Open => 'r',
            Self::Asked => 'k',
            Self::Judged => 'j',
        }
    }
}

/// Whether anybody may call a route without a limit.
pub(super) fn needs_decision(publish: &ir::Content, route: &ir::Route) -> bool {
    publish.auth_mode != ir::AuthMode::None || route.policies.rate_limit.is_some()
}

/// What a rule needs besides what its `HTTPRoute` has; none if nothing.
pub(super) fn special(guard: Guard, route: &ir::Route) -> Option<Value> {
    let ir::Policies { ip_access, cors, rate_limit: _, request_headers: _, response_headers: _ } =
        &route.policies;
    if ip_access.is_none() && cors.is_none() {
        return None;
    }
    let mut spec = json!({});
    if guard == Guard::Asked {
        // The question is the gateway's. With one of its own the policy would be a filter of its own, which
        // connections that are there do not have, so that their calls pass.
        set(&mut spec, "mergeType", json!("StrategicMerge"));
    }
    if let Some(access) = ip_access {
        set(&mut spec, "authorization", authorization(access));
    }
    if let Some(cors) = cors {
        set(&mut spec, "cors", cors_policy(cors));
    }
    Some(spec)
}

/// The policies of a gateway: each call is asked about, except on routes with the label [`OPEN`].
///
/// A controller learns of a route and of the route's policies by different ways, so a route may be there before
/// its policies. What closes it must be there before it, and what is asked must come with it: as annotations, which
/// the question has as the route's metadata.
pub(super) fn defaults(owner: &Owner<'_>, gateway: &str, asks: bool) -> Vec<Value> {
    let judge = |action: &str| json!({ "authorization": { "defaultAction": action } });
    let mut closed = if asks { json!({ "extAuth": question(owner) }) } else { judge("Deny") };
    let target = json!({ "group": GATEWAY_API, "kind": "Gateway", "name": gateway });
    set(&mut closed, "targetRefs", json!([target]));
    let mut open = judge("Allow");
    let label = super::object::label(owner.gateway);
    let selector = json!({
        "group": GATEWAY_API, "kind": "HTTPRoute", "matchLabels": { OPEN: "true", GATEWAY: label },
    });
    set(&mut open, "targetSelectors", json!([selector]));
    vec![
        owner.of_spec(SECURITY, gateway, closed),
        owner.of_spec(SECURITY, &owner.name("-open"), open),
    ]
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

/// Asks the agent about each call.
fn question(owner: &Owner<'_>) -> Value {
    json!({
        "grpc": { "backendRefs": [{
            "group": ENVOY_GATEWAY, "kind": "Backend", "name": decider_name(owner), "weight": 1,
        }]},
        "failOpen": false,
        "timeout": duration::of_ms(HOLD_MS),
        "statusOnError": NO_ANSWER,
        "includeRouteMetadata": true,
    })
}

/// Every other filter that a publish of the gateway may use, so that the listener has them before the first
/// call: Envoy lets calls on open connections pass by a filter that comes later.
pub(super) fn placeholder() -> Value {
    let nobody = IpAccess { allow: Vec::new(), deny: Vec::new() };
    json!({
        "mergeType": "StrategicMerge",
        "authorization": authorization(&nobody),
        "cors": { "allowOrigins": ["https://placeholder.invalid"] },
    })
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
