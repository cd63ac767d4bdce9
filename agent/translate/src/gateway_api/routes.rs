//! The objects of a publish.

use std::collections::HashMap;

use imp_grammar::classes;
use imp_grammar::hosts::is_wildcard;
use serde_json::{Value, json};

use super::backends::Backends;
use super::entry::{Comparison, Conditions, Matches, PathValue, json_of};
use super::gateway::parent;
use super::object::{HTTP_ROUTE, Owner, digest, set};
use super::refusal::{Refusal, need};
use super::split::{self, Rule};
use super::{Deployed, Options, filters, precedence, security, traffic};
use crate::ir;

/// The most hostnames of one `HTTPRoute`.
const MAX_HOSTS: usize = 16;
/// The most matches of one rule, and rules that fit the bounds of an `HTTPRoute` with them.
const MAX_MATCHES: usize = 64;

/// What became of a publish: its objects in the order in which they are applied, and what decides
/// whether it can share a host.
pub(super) struct Rendered {
    pub(super) objects: Vec<Value>,
    pub(super) matches: Vec<Matches>,
}

/// Renders a publish.
pub(super) fn render(
    options: &Options,
    deployed: &Deployed,
    publish: &ir::Publish,
) -> Result<Rendered, Refusal> {
    let class = deployed.class;
    let owner = Owner {
        namespace: &options.namespace,
        cluster: &options.cluster,
        gateway: &publish.gateway_id,
        publish: Some((&publish.id, publish.revision)),
    };
    refuse_hosts(deployed, publish)?;
    if publish.suspended {
        need(class, classes::SUSPENSION, || "a suspended publish".to_owned())?;
        let objects = of_answers(&owner, publish, &[], (503, "publish_suspended", "Suspended"));
        return Ok(Rendered { objects, matches: Vec::new() });
    }
    let matches = matches(deployed, publish)?;
    let mut parts = Parts::default();
    let mut backends = Backends::new(class, options);
    for (route, matches) in publish.routes.iter().zip(&matches) {
        parts.add(options, deployed, &owner, publish, route, matches, &mut backends)?;
    }
    let mut objects = backends.into_objects();
    objects.append(&mut parts.filters);
    objects.extend(parts.into_routes(&owner, publish));
    if class.has_policies {
        let traced = traced(publish, &matches);
        let end = (404, "no_route", "No such route");
        objects.extend(of_answers(&owner, publish, &traced, end));
    }
    Ok(Rendered { objects, matches })
}

fn refuse_hosts(deployed: &Deployed, publish: &ir::Publish) -> Result<(), Refusal> {
    if publish.hostnames.iter().any(|host| is_wildcard(host)) {
        need(deployed.class, classes::WILDCARDS, || "a wildcard".to_owned())?;
    }
    if publish.kept_out.is_empty() {
        return Ok(());
    }
    let why = "Gateway API cannot leave out the hosts below it that are other tenants'";
    Err(Refusal::unsaid("a wildcard", why))
}

/// What each route matches, in the order of the routes.
fn matches(deployed: &Deployed, publish: &ir::Publish) -> Result<Vec<Matches>, Refusal> {
    let class = deployed.class;
    let mut matches = Vec::with_capacity(publish.routes.len());
    for route in &publish.routes {
        matches.push(Matches::of(class, &publish.base_path, route)?);
    }
    let name = |at: usize| publish.routes.get(at).map(|it| it.id.clone()).unwrap_or_default();
    precedence::arrange(class, &mut matches, name)?;
    Ok(matches)
}

/// The rules and policies of a publish as they gather.
#[derive(Default)]
struct Parts {
    rules: Vec<Rule>,
    filters: Vec<Value>,
    /// By the name of a rule.
    security: HashMap<String, Value>,
    traffic: HashMap<String, Value>,
}

impl Parts {
    #[expect(clippy::too_many_arguments, reason = "one call; each is another part of the input")]
    fn add(
        &mut self,
        options: &Options,
        deployed: &Deployed,
        owner: &Owner<'_>,
        publish: &ir::Publish,
        route: &ir::Route,
        matches: &Matches,
        backends: &mut Backends<'_>,
    ) -> Result<(), Refusal> {
        let class = deployed.class;
        let at = || format!("route {}", route.id);
        if security::needs_decision(publish, route) {
            need(class, classes::DECISIONS, at)?;
            if options.decider.is_none() {
                let why = "calls need a decision, and the agent has no address for proxies to ask";
                return Err(Refusal::unsaid(at(), why));
            }
        }
        if matches.len() > MAX_MATCHES {
            return Err(Refusal::unsaid(at(), "Gateway API has 64 matches per rule at most"));
        }
        if route.policies.ip_access.is_some() {
            need(class, classes::IP_ACCESS, at)?;
        }
        let name = format!("r-{}", digest(&route.id));
        let filters = filters::of(class, owner, &publish.base_path, route, matches.len())?;
        let mut json = json!({
            "name": name,
            "matches": matches.json(),
            "backendRefs": backends.references(owner, route)?,
        });
        if !filters.list.is_empty() {
            set(&mut json, "filters", json!(filters.list));
        }
        if let Some(timeouts) = traffic::timeouts(class, route) {
            set(&mut json, "timeouts", timeouts);
        }
        self.filters.extend(filters.objects);
        if let Some(spec) = traffic::of(class, route)? {
            self.traffic.insert(name.clone(), spec);
        }
        let special = security::special(owner, publish, route).filter(|_| class.has_policies);
        if let Some(spec) = special {
            self.security.insert(name.clone(), spec);
        }
        self.rules.push(Rule { name, matches: matches.len(), json });
        Ok(())
    }

    /// All policies, then all routes, the last of these first: when rules move, they are in two
    /// routes meanwhile rather than in none.
    fn into_routes(self, owner: &Owner<'_>, publish: &ir::Publish) -> Vec<Value> {
        let (mut policies, mut routes) = (Vec::new(), Vec::new());
        let hosts = host_lists(publish);
        for (index, rules) in split::spread(self.rules).into_iter().enumerate() {
            let (mut json, mut usual) = (Vec::new(), HashMap::<String, usize>::new());
            for rule in &rules {
                if let Some(spec) = self.traffic.get(&rule.name) {
                    *usual.entry(spec.to_string()).or_default() += 1;
                }
            }
            // Of those that are equally frequent any, but always the same.
            let usual = usual.into_iter().max_by_key(|(spec, count)| (*count, spec.clone()));
            let names: Vec<_> = rules.iter().map(|rule| rule.name.clone()).collect();
            json.extend(rules.into_iter().map(|rule| rule.json));
            if json.is_empty() {
                continue;
            }
            for (place, hosts) in hosts.iter().enumerate() {
                let suffix = if place == 0 { String::new() } else { format!("h{place}") };
                let name = owner.name(&format!("-r{index}{suffix}"));
                let tail = |rule: &str| format!("{name}-{}", rule.trim_start_matches("r-"));
                if let Some(spec) = security::floor(owner, publish) {
                    policies.push(security::policy(owner, &name, &name, None, spec));
                }
                let first = names.iter().find_map(|rule| {
                    let spec = self.traffic.get(rule)?;
                    usual.as_ref().is_some_and(|(it, _)| *it == spec.to_string()).then_some(spec)
                });
                if let Some(spec) = first {
                    policies.push(traffic::policy(owner, &name, &name, None, spec.clone()));
                }
                for rule in &names {
                    if let Some(spec) = self.security.get(rule) {
                        let (own, spec) = (tail(rule), spec.clone());
                        policies.push(security::policy(owner, &own, &name, Some(rule), spec));
                    }
                    if let Some(spec) = self.traffic.get(rule).filter(|it| Some(*it) != first) {
                        let (own, spec) = (tail(rule), spec.clone());
                        policies.push(traffic::policy(owner, &own, &name, Some(rule), spec));
                    }
                }
                routes.push(http_route(owner, &name, hosts, &json));
            }
        }
        routes.reverse();
        policies.into_iter().chain(routes).collect()
    }
}

/// Calls that no route takes, and TRACE, which is never routed. In routes of their own: they need no
/// key.
fn of_answers(
    owner: &Owner<'_>,
    publish: &ir::Publish,
    traced: &[Value],
    (status, code, title): (u16, &str, &str),
) -> Vec<Value> {
    let (filter, object) = filters::answer(owner, status, code, title);
    let mut objects = vec![object];
    let base = PathValue { comparison: Comparison::Prefix, text: publish.base_path.clone() };
    let end = json_of(&base, &Conditions::default());
    let rule = |index: usize, matches: &[Value]| json!({ "name": format!("a-{index}"), "matches": matches, "filters": [filter] });
    let mut rules = vec![rule(0, &[end])];
    rules.extend(traced.chunks(MAX_MATCHES).enumerate().map(|(at, of)| rule(at + 1, of)));
    for (place, hosts) in host_lists(publish).iter().enumerate() {
        let suffix = if place == 0 { String::new() } else { format!("h{place}") };
        for (index, rules) in rules.chunks(2).enumerate() {
            let name = owner.name(&format!("-e{index}{suffix}"));
            objects.push(http_route(owner, &name, hosts, rules));
        }
    }
    objects
}

/// TRACE on the paths of routes that name no methods.
fn traced(publish: &ir::Publish, matches: &[Matches]) -> Vec<Value> {
    let all = publish.routes.iter().zip(matches);
    let any_method = all.filter(|(route, _)| route.methods.is_empty());
    any_method
        .flat_map(|(_, matches)| {
            let of = matches.conditions.iter().filter(|of| of.method.is_none());
            of.flat_map(|of| {
                let trace = Conditions { method: Some("TRACE"), ..of.clone() };
                matches.paths.iter().map(move |path| json_of(path, &trace))
            })
        })
        .collect()
}

/// The hostnames of each `HTTPRoute`; empty for every host.
fn host_lists(publish: &ir::Publish) -> Vec<Vec<&str>> {
    if publish.hostnames.iter().any(|host| &**host == "*") {
        return vec![Vec::new()];
    }
    let hosts: Vec<&str> = publish.hostnames.iter().map(|host| &**host).collect();
    hosts.chunks(MAX_HOSTS).map(<[&str]>::to_vec).collect()
}

fn http_route(owner: &Owner<'_>, name: &str, hosts: &[&str], rules: &[Value]) -> Value {
    let gateway = Owner { publish: None, ..owner.clone() }.name("");
    let mut spec = json!({ "parentRefs": parent(&gateway), "rules": rules });
    if !hosts.is_empty() {
        set(&mut spec, "hostnames", json!(hosts));
    }
    owner.of_spec(HTTP_ROUTE, name, spec)
}
