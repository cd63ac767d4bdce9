//! Filters of a rule: changes of headers, rewrites, answers.

use imp_grammar::classes::{self, Class};
use serde_json::{Value, json};

use super::entry::is_header_value;
use super::object::{self, ENVOY_GATEWAY, FILTER, Owner, set};
use super::refusal::{Refusal, need};
use crate::ir::policy::Headers;
use crate::ir::{self, PathMatch};
use crate::xds::{Rewritten, rewritten};

/// The most headers in one list of a filter.
const MAX_HEADERS: usize = 16;

/// The filters of a rule, and the objects that they name.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) list: Vec<Value>,
    pub(super) objects: Vec<Value>,
}

/// The filters of a route. `matches` is how many matches the rule has.
pub(super) fn of(
    class: &Class,
    owner: &Owner<'_>,
    base: &str,
    route: &ir::Route,
    matches: usize,
) -> Result<Filters, Refusal> {
    let at = || format!("route {}", route.id);
    let mut filters = Filters::default();
    let ir::Policies { request_headers, response_headers, ip_access: _, cors, rate_limit: _ } =
        &route.policies;
    let changes = [
        (
            "RequestHeaderModifier",
            "requestHeaderModifier",
            request_headers,
            classes::REQUEST_HEADERS,
        ),
        (
            "ResponseHeaderModifier",
            "responseHeaderModifier",
            response_headers,
            classes::RESPONSE_HEADERS,
        ),
    ];
    for (kind, field, headers, feature) in changes {
        if let Some(headers) = headers {
            need(class, feature, at)?;
            let changes = modifier(class, headers, &at)?;
            filters.list.push(json!({ "type": kind, field: changes }));
        }
    }
    if let Some(cors) = cors.as_ref().filter(|_| !class.has_policies) {
        need(class, classes::CORS, at)?;
        let cors = super::security::cors_filter(cors);
        filters.list.push(json!({ "type": "CORS", "cors": cors }));
    }
    rewrite(class, owner, base, route, matches, &mut filters)?;
    Ok(filters)
}

fn modifier(class: &Class, headers: &Headers, at: &impl Fn() -> String) -> Result<Value, Refusal> {
    let lists = [headers.set.len(), headers.add.len(), headers.remove.len()];
    if lists.into_iter().any(|list| list > MAX_HEADERS) {
        return Err(Refusal::unsaid(at(), "Gateway API changes 16 headers of a kind at most"));
    }
    let pairs = |list: &[(String, String)]| {
        let pair = |(name, value): &(String, String)| {
            if !is_header_value(value) {
                let why = "Gateway API sets header values of visible ASCII with single blanks only";
                return Err(Refusal::unsaid(format!("{}, header {name}", at()), why));
            }
            // Only Envoy reads a percent sign as the beginning of something.
            let value = if class.has_policies { value.clone() } else { value.replace("%%", "%") };
            Ok(json!({ "name": name, "value": value }))
        };
        list.iter().map(pair).collect::<Result<Vec<_>, _>>()
    };
    let mut changes = json!({});
    for (field, list) in [("set", &headers.set), ("add", &headers.add)] {
        if !list.is_empty() {
            set(&mut changes, field, json!(pairs(list)?));
        }
    }
    if !headers.remove.is_empty() {
        set(&mut changes, "remove", json!(headers.remove));
    }
    Ok(changes)
}

fn rewrite(
    class: &Class,
    owner: &Owner<'_>,
    base: &str,
    route: &ir::Route,
    matches: usize,
    filters: &mut Filters,
) -> Result<(), Refusal> {
    let at = || format!("route {}", route.id);
    let mut core = json!({});
    if let Some(host) = &route.rewrite_host {
        need(class, classes::REWRITE_HOST, at)?;
        set(&mut core, "hostname", json!(host));
    }
    let Some(rewritten) = rewritten(base, route) else {
        return push_core(core, filters);
    };
    let is_fixed = matches!(route.rewrite_path.as_deref(), Some(to) if !to.contains('{'));
    need(class, if is_fixed { classes::REWRITE_PATH } else { classes::REWRITE_COMPUTED }, at)?;
    let Rewritten { pattern, substitution, leaves } = rewritten;
    if leaves {
        let why = "a variable of its rewrite could leave the target's directory";
        return Err(Refusal::unsaid(at(), why));
    }
    if class.has_policies {
        let spec = json!({ "urlRewrite": { "path": {
            "type": "ReplaceRegexMatch",
            "replaceRegexMatch": { "pattern": pattern, "substitution": substitution },
        }}});
        let name = owner.name(&format!("-w{}", object::digest(&spec.to_string())));
        filters.objects.push(owner.of_spec(FILTER, &name, spec));
        filters.list.push(reference(&name));
        return push_core(core, filters);
    }
    let to = route.rewrite_path.as_deref().unwrap_or_default();
    let path = match &route.path {
        PathMatch::Prefix(_) if matches != 1 => {
            let why = "Gateway API replaces a prefix in rules of one match only: no methods";
            return Err(Refusal::unsaid(at(), why));
        }
        PathMatch::Prefix(_) => json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": to }),
        _ => json!({ "type": "ReplaceFullPath", "replaceFullPath": to }),
    };
    set(&mut core, "path", path);
    push_core(core, filters)
}

fn push_core(core: Value, filters: &mut Filters) -> Result<(), Refusal> {
    if core != json!({}) {
        filters.list.push(json!({ "type": "URLRewrite", "urlRewrite": core }));
    }
    Ok(())
}

/// The filter that an object of Envoy Gateway is.
fn reference(name: &str) -> Value {
    json!({ "type": "ExtensionRef", "extensionRef": {
        "group": ENVOY_GATEWAY, "kind": "HTTPRouteFilter", "name": name,
    }})
}

/// A problem document instead of an upstream: the filter, and its object.
pub(super) fn answer(owner: &Owner<'_>, status: u16, code: &str, title: &str) -> (Value, Value) {
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"code\":\"{code}\",\
         \"request_id\":\"%REQ(X-REQUEST-ID)%\"}}"
    );
    let spec = json!({ "directResponse": {
        "statusCode": status,
        "contentType": "application/problem+json",
        "body": { "type": "Inline", "inline": body },
    }});
    let name = owner.name(&format!("-a{status}"));
    (reference(&name), owner.of_spec(FILTER, &name, spec))
}
