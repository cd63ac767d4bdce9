//! A gateway: its `Gateway`, what its listeners do to every call, and what must be there before the
//! first one.

use imp_grammar::classes;
use imp_grammar::headers::{FOREIGN_NAMES, OURS};
use serde_json::{Value, json};

use super::deployed::{Deployed, Options};
use super::object::{CLIENTS, GATEWAY_API, HTTP_ROUTE, OF_GATEWAY, Owner, parent, set};
use super::refusal::{Refusal, need};
use super::{filters, probe, security};
use crate::ir::{self, EscapedSlash};

/// The host of the placeholder, which nobody can have (RFC 6761).
const NOBODY: &str = "placeholder.invalid";
/// Its path, where its host is a publish's, too: a listener may serve a single one.
const HOLD: &str = "/.well-known/imp-gateway/hold";

/// The objects of a gateway, in the order in which they are applied.
pub(super) fn render(
    options: &Options,
    deployed: &Deployed,
    gateway: &ir::Gateway,
) -> Result<Vec<Value>, Refusal> {
    let class = deployed.class;
    if gateway.edge != ir::Edge::default() {
        need(class, classes::GATEWAY_SETTINGS, || "the gateway".to_owned())?;
    }
    let owner = owner(options, gateway);
    let name = owner.name("");
    let mut objects = Vec::new();
    if class.has_policies {
        if let Some(decider) = &deployed.decider {
            objects.extend(security::decider(&owner, decider));
        }
        objects.push(clients(&owner, &name, gateway));
        objects.extend(security::defaults(&owner, &name, deployed.decider.is_some()));
        objects.extend(placeholder(&owner, gateway));
    }
    objects.push(owner.of_spec(OF_GATEWAY, &name, spec(deployed, gateway)));
    Ok(objects)
}

/// The owner of a gateway's objects.
pub(super) fn owner<'a>(options: &'a Options, gateway: &'a ir::Gateway) -> Owner<'a> {
    Owner {
        namespace: &options.namespace,
        cluster: &options.cluster,
        gateway: &gateway.id,
        publish: None,
    }
}

fn spec(deployed: &Deployed, gateway: &ir::Gateway) -> Value {
    let listener = |listener: &ir::Listener| {
        let mut json = json!({
            "name": listener.name,
            "port": listener.port,
            "protocol": "HTTP",
            "allowedRoutes": { "namespaces": { "from": "Same" } },
        });
        if let Some(hostname) = &listener.hostname {
            set(&mut json, "hostname", json!(hostname));
        }
        json
    };
    let listeners: Vec<_> = gateway.listeners.iter().map(listener).collect();
    json!({ "gatewayClassName": deployed.name, "listeners": listeners })
}

/// What the listeners do to every call.
fn clients(owner: &Owner<'_>, name: &str, gateway: &ir::Gateway) -> Value {
    let edge = gateway.edge;
    let slashes = match edge.escaped_slash {
        EscapedSlash::Refuse => "RejectRequest",
        EscapedSlash::Keep => "KeepUnchanged",
        EscapedSlash::Decode => "UnescapeAndForward",
    };
    let underscores = if edge.refuse_underscores { "RejectRequest" } else { "Allow" };
    let prefix = |prefix: &str| json!({ "type": "Prefix", "value": prefix });
    // Envoy writes the others that only a proxy may say.
    let mut spec = json!({
        "targetRefs": [{ "group": GATEWAY_API, "kind": "Gateway", "name": name }],
        "path": { "escapedSlashesAction": slashes, "disableMergeSlashes": false },
        "headers": {
            "withUnderscoresAction": underscores,
            "earlyRequestHeaders": {
                "remove": FOREIGN_NAMES,
                "removeOnMatch": [prefix(OURS), prefix("x-original-")],
            },
            "lateResponseHeaders": { "removeOnMatch": [prefix(OURS)] },
        },
    });
    if !edge.refuse_http10 {
        set(&mut spec, "http1", json!({ "http10": { "useDefaultHost": false } }));
    }
    if edge.trusted_hops > 0 {
        let hops = json!({ "xForwardedFor": { "numTrustedHops": edge.trusted_hops } });
        set(&mut spec, "clientIPDetection", hops);
    }
    owner.of_spec(CLIENTS, name, spec)
}

/// A route of a host that nobody has, with a policy of every kind that publishes use.
fn placeholder(owner: &Owner<'_>, gateway: &ir::Gateway) -> Vec<Value> {
    let name = owner.name("-hold");
    let (filter, answer) = filters::answer(owner, 404, "no_route", "No such route");
    let route = json!({
        "parentRefs": parent(&owner.name("")),
        "hostnames": probe::hosts(gateway, NOBODY),
        "rules": [{
            "name": "hold",
            "matches": [{ "path": { "type": "Exact", "value": HOLD } }],
            "filters": [filter],
        }],
    });
    vec![
        security::policy(owner, &name, &name, None, security::placeholder()),
        answer,
        owner.of_spec(HTTP_ROUTE, &name, route),
    ]
}
