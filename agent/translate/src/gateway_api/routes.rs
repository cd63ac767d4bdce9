//! The objects of a publish.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use imp_grammar::classes;
use imp_grammar::hosts::is_wildcard;
use serde_json::{Value, json};

use super::backends::Backends;
use super::deployed::{Deployed, Options};
use super::entry::{Comparison, Conditions, Matches, PathValue, json_of};
use super::object::{HTTP_ROUTE, OPEN, Owner, digest, parent, set, set_label};
use super::refusal::{Refusal, need};
use super::security::Guard;
use super::split::{self, Rule};
use super::{filters, precedence, security, told, traffic};
use crate::ir;

/// The most hostnames of one `HTTPRoute`.
const MAX_HOSTS: usize = 16;
/// The most matches of one rule, and how many such rules an `HTTPRoute` takes.
const MAX_MATCHES: usize = 64;
const RULES_OF_ANSWERS: usize = 2;

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
        // Without the answer there is nothing, so that nobody is served.
        let all: Vec<_> =
            class.can(classes::SUSPENSION).then(|| everything(publish)).into_iter().collect();
        let objects = of_answers(&owner, publish, &all, (503, "publish_suspended", "Suspended"));
        return Ok(Rendered { objects, matches: Vec::new() });
    }
    let matches = matches(deployed, publish)?;
    let mut parts = Parts::default();
    let mut backends = Backends::new(class, options);
    for (route, matches) in publish.routes.iter().zip(&matches) {
        parts.add(deployed, &owner, publish, route, matches, &mut backends)?;
    }
    let mut objects = backends.into_objects();
    objects.append(&mut parts.filters);
    objects.extend(parts.into_routes(&owner, publish));
    if class.has_policies {
        let mut unrouted: Vec<_> = untaken(publish, &matches).into_iter().collect();
        unrouted.extend(traced(publish, &matches));
        let answer = (404, "no_route", "No such route");
        objects.extend(of_answers(&owner, publish, &unrouted, answer));
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
    rules: BTreeMap<Guard, Vec<Rule>>,
    filters: Vec<Value>,
    /// By the name of a rule.
    security: HashMap<String, Value>,
    traffic: HashMap<String, Value>,
}

impl Parts {
    fn add(
        &mut self,
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
            if deployed.decider.is_none() {
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
            "matches": matches.json(),
            "backendRefs": backends.references(owner, route)?,
        });
        if class.has_policies {
            // They refer to it. The standard channel of Gateway API has no such field before 1.4.
            set(&mut json, "name", json!(name));
        }
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
        let guard = Guard::of(publish, route);
        let special = security::special(guard, route).filter(|_| class.has_policies);
        if let Some(spec) = special {
            self.security.insert(name.clone(), spec);
        }
        let limited = route.policies.rate_limit.as_ref().map(|_| route.id.clone());
        let rule = Rule { name, matches: matches.len(), json, limited };
        self.rules.entry(guard).or_default().push(rule);
        Ok(())
    }

    /// All policies, then all routes, the last of these first: when rules move, they are in two
    /// routes meanwhile rather than in none.
    fn into_routes(mut self, owner: &Owner<'_>, publish: &ir::Publish) -> Vec<Value> {
        let (mut policies, mut routes) = (Vec::new(), Vec::new());
        for (guard, rules) in mem::take(&mut self.rules) {
            let spread = split::spread(rules).into_iter().enumerate();
            for (index, rules) in spread.filter(|(_, rules)| !rules.is_empty()) {
                let part = format!("-{}{index}", guard.letter());
                let (of_rules, of_part) = self.http_routes(owner, publish, guard, &part, &rules);
                policies.extend(of_rules);
                routes.extend(of_part);
            }
        }
        routes.reverse();
        policies.into_iter().chain(routes).collect()
    }

    /// An `HTTPRoute` with these rules for each list of hosts, and their policies.
    fn http_routes(
        &self,
        owner: &Owner<'_>,
        publish: &ir::Publish,
        guard: Guard,
        part: &str,
        rules: &[Rule],
    ) -> (Vec<Value>, Vec<Value>) {
        let (mut policies, mut routes) = (Vec::new(), Vec::new());
        let json: Vec<_> = rules.iter().map(|rule| rule.json.clone()).collect();
        for (place, hosts) in host_lists(publish).iter().enumerate() {
            let name = owner.name(&format!("{part}{}", of_hosts(place)));
            policies.extend(self.policies(owner, &name, rules));
            let mut route = http_route(owner, &name, hosts, &json);
            match guard {
                Guard::Open => set_label(&mut route, OPEN, "true"),
                Guard::Asked => told::annotate(&mut route, publish, rules),
                Guard::Judged => {}
            }
            routes.push(route);
        }
        (policies, routes)
    }

    /// The policies of an `HTTPRoute` with these rules: one for all of them, and one for each that
    /// needs another.
    fn policies(&self, owner: &Owner<'_>, route: &str, rules: &[Rule]) -> Vec<Value> {
        let mut policies = Vec::new();
        let usual = self.usual_traffic(rules);
        if let Some(spec) = usual {
            policies.push(traffic::policy(owner, route, route, None, spec.clone()));
        }
        for rule in rules.iter().map(|rule| &rule.name) {
            let name = format!("{route}-{}", rule.trim_start_matches("r-"));
            if let Some(spec) = self.security.get(rule) {
                policies.push(security::policy(owner, &name, route, Some(rule), spec.clone()));
            }
            if let Some(spec) = self.traffic.get(rule).filter(|it| Some(*it) != usual) {
                policies.push(traffic::policy(owner, &name, route, Some(rule), spec.clone()));
            }
        }
        policies
    }

    /// What most of the rules need; of those that are equally frequent always the same.
    fn usual_traffic(&self, rules: &[Rule]) -> Option<&Value> {
        let mut counts: BTreeMap<String, (usize, &Value)> = BTreeMap::new();
        for spec in rules.iter().filter_map(|rule| self.traffic.get(&rule.name)) {
            counts.entry(spec.to_string()).or_insert((0, spec)).0 += 1;
        }
        counts.into_values().max_by_key(|(count, _)| *count).map(|(_, spec)| spec)
    }
}

/// The part of a name that tells the `HTTPRoute`s of one publish apart that differ in their hosts.
fn of_hosts(place: usize) -> String {
    if place == 0 { String::new() } else { format!("h{place}") }
}

/// Answers to these matches. In routes of their own: they need no key.
fn of_answers(
    owner: &Owner<'_>,
    publish: &ir::Publish,
    matches: &[Value],
    (status, code, title): (u16, &str, &str),
) -> Vec<Value> {
    if matches.is_empty() {
        return Vec::new();
    }
    let (filter, object) = filters::answer(owner, status, code, title);
    let rule = |(index, matches): (usize, &[Value])| json!({ "name": format!("a-{index}"), "matches": matches, "filters": [filter] });
    let rules: Vec<_> = matches.chunks(MAX_MATCHES).enumerate().map(rule).collect();
    let mut objects = vec![object];
    for (place, hosts) in host_lists(publish).iter().enumerate() {
        for (index, rules) in rules.chunks(RULES_OF_ANSWERS).enumerate() {
            let name = owner.name(&format!("-e{index}{}", of_hosts(place)));
            let mut route = http_route(owner, &name, hosts, rules);
            set_label(&mut route, OPEN, "true");
            objects.push(route);
        }
    }
    objects
}

/// The match of everything below the base path.
fn everything(publish: &ir::Publish) -> Value {
    let base = PathValue { comparison: Comparison::Prefix, text: publish.base_path.clone() };
    json_of(&base, &Conditions::default())
}

/// What no route takes: everything below the base path, unless a route takes that.
fn untaken(publish: &ir::Publish, matches: &[Matches]) -> Option<Value> {
    let everything = everything(publish);
    let taken = matches.iter().any(|route| route.json().contains(&everything));
    (!taken).then_some(everything)
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
