//! One route of one publish.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::google::protobuf as google;
use imp_grammar::path::Pattern;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::canon::{self, inline, uint};
use super::conditions;
use super::door::context;
use super::filter::{DOOR, Filter, OPEN};
use super::listener::SLASH;
use super::path::{self, Rewrite};
use super::policy;
use super::reach::Reach;
use super::{retry, rewrite, upgrade};
use crate::ir;

const METHOD_NOT_ALLOWED: u32 = 405;

/// A rendered route: the encoded `envoy.config.route.v3.Route`. Policies make up most of it and are
/// the same for many routes, which share them.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The fields before those of the policies.
    before: Vec<u8>,
    policies: policy::Fields,
    after: Vec<u8>,
    /// Whether it matches the base path itself, without a trailing slash.
    pub(super) takes_base: bool,
    /// Which paths it may take.
    pub(super) reach: Arc<Reach>,
}

impl Route {
    fn new(route: &envoy::Route, base: &str, reach: Arc<Reach>) -> Self {
        use envoy::route_match::PathSpecifier::{Path, PathSeparatedPrefix};
        let specifier = route.r#match.as_ref().and_then(|m| m.path_specifier.as_ref());
        let takes_base =
            matches!(specifier, Some(Path(path) | PathSeparatedPrefix(path)) if path == base);
        Self {
            before: route.encode_to_vec(),
            policies: Arc::default(),
            after: Vec::new(),
            takes_base,
            reach,
        }
    }

    /// Nothing but which paths it may take.
    #[cfg(test)]
    pub(super) fn reaching(pattern: &Pattern) -> Self {
        let reach = Arc::new(Reach::of(pattern));
        Self::new(&envoy::Route::default(), "/", reach)
    }

    fn len(&self) -> usize {
        self.before.len() + self.policies.len() + self.after.len()
    }

    /// Appends it as an element of the repeated field `tag`.
    pub(super) fn append(&self, tag: u32, bytes: &mut Vec<u8>) {
        encode_key(tag, WireType::LengthDelimited, bytes);
        encode_varint(self.len() as u64, bytes);
        for part in [&self.before[..], &self.policies, &self.after] {
            bytes.extend_from_slice(part);
        }
    }
}

/// Renders the routes of a publish one by one; `cluster_of` names the cluster of a backend.
pub(super) struct Renderer<'a> {
    publish: &'a ir::Content,
    cluster_of: &'a mut dyn FnMut(&ir::Backend) -> String,
    policies: policy::Renderer,
    /// Whether the module reads what routes tell of themselves.
    for_module: bool,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(
        publish: &'a ir::Content,
        for_module: bool,
        cluster_of: &'a mut dyn FnMut(&ir::Backend) -> String,
    ) -> Self {
        Self { publish, cluster_of, policies: policy::Renderer::default(), for_module }
    }

    /// Renders a route of the publish. More than one when Envoy has no single matcher for it, or
    /// for preflights.
    pub(super) fn render(&mut self, route: &ir::Route) -> Vec<Route> {
        let preflight = policy::cors::preflight(route);
        let mut routes = self.render_one(route);
        routes.extend(preflight.iter().flat_map(|route| self.render_one(route)));
        routes
    }

    fn render_one(&mut self, route: &ir::Route) -> Vec<Route> {
        let base = self.publish.base_path.as_str();
        let below = path::fence(base, &route.pattern);
        let action = envoy::route::Action::Route(action(base, route, self.cluster_of));
        let after = self.door(route);
        let policies = self.policies.render(&route.policies);
        let reach = Arc::new(Reach::of(&route.pattern));
        let one = |specifier| {
            let before = envoy::Route {
                r#match: Some(matches(route, specifier, below.as_deref())),
                action: Some(action.clone()),
                ..Default::default()
            };
            let (policies, after) = (policies.clone(), after.clone());
            Route { policies, after, ..Route::new(&before, base, reach.clone()) }
        };
        let leaving = rewrite::leaving(base, route).into_iter();
        let closed = leaving.map(|it| self.closed_to(route, it, below.as_deref(), reach.clone()));
        let own = path::specifiers(base, &route.pattern).into_iter().map(one);
        closed.chain(own).collect()
    }

    /// What the doors read of the route, and which of them its calls go through.
    fn door(&self, route: &ir::Route) -> Vec<u8> {
        let said = said(self.publish, route);
        // The module needs no agent, so it decides about everything.
        let open = !self.for_module && needs_no_decision(self.publish, route);
        let typed_per_filter_config = check(if open { OPEN } else { DOOR }, said.clone());
        let mut fields =
            envoy::Route { typed_per_filter_config, ..Default::default() }.encode_to_vec();
        if open {
            // An entry of the same map: see `policy::encode`.
            let typed_per_filter_config = open_door();
            let open = envoy::Route { typed_per_filter_config, ..Default::default() };
            fields.extend(open.encode_to_vec());
        }
        if self.for_module {
            fields.extend(metadata(said).encode_to_vec());
        }
        fields
    }

    /// Refuses what the route must not take of what it matches.
    fn closed_to(
        &self,
        route: &ir::Route,
        expression: String,
        below: Option<&str>,
        reach: Arc<Reach>,
    ) -> Route {
        let closed = envoy::Route {
            r#match: Some(matches(route, path::regex(expression), below)),
            ..answer(404, "no_route", "No such route")
        };
        Route::new(&closed, &self.publish.base_path, reach)
    }
}

/// Answers everything under a base path itself.
pub(super) fn closed(base: &str, status: u32, code: &str, title: &str) -> Route {
    let route = envoy::Route {
        r#match: Some(envoy::RouteMatch {
            path_specifier: Some(path::prefix(base)),
            ..Default::default()
        }),
        ..answer(status, code, title)
    };
    Route::new(&route, base, Arc::new(Reach::all()))
}

/// Refuses paths that contain this and that an upstream may read as those of another publish.
pub(super) fn respelled(expression: String, sign: &str) -> Route {
    let (status, code, title) = match sign {
        "%2F" => (400, SLASH.0, SLASH.1),
        _ => (404, "no_route", "No such route"),
    };
    let route = envoy::Route {
        r#match: Some(envoy::RouteMatch {
            path_specifier: Some(path::regex(expression)),
            headers: vec![conditions::path_contains(sign)],
            ..Default::default()
        }),
        ..answer(status, code, title)
    };
    Route::new(&route, "/", Arc::new(Reach::all()))
}

/// Answers calls to a path with any other method than these (RFC 9110 15.5.6). The body is the
/// listener's, which has it once for all.
pub(super) fn not_allowed(publish: &ir::Content, path: &Pattern, methods: &[&str]) -> Vec<Route> {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    let base = publish.base_path.as_str();
    let below = path::fence(base, path);
    let below = below.map(|start| pseudo(":path", ir::ValueRule::Prefix(start)));
    let other = envoy::HeaderMatcher {
        invert_match: true,
        ..pseudo(":method", ir::ValueRule::Regex(methods.join("|")))
    };
    let reach = Arc::new(Reach::of(path));
    let one = |specifier| {
        let route = envoy::Route {
            r#match: Some(envoy::RouteMatch {
                path_specifier: Some(specifier),
                headers: below.iter().cloned().chain([other.clone()]).collect(),
                ..Default::default()
            }),
            typed_per_filter_config: open_door(),
            response_headers_to_add: vec![canon::header(
                "allow",
                &methods.join(", "),
                OverwriteIfExistsOrAdd,
            )],
            action: Some(envoy::route::Action::DirectResponse(envoy::DirectResponseAction {
                status: METHOD_NOT_ALLOWED,
                ..Default::default()
            })),
            ..Default::default()
        };
        Route::new(&route, base, reach.clone())
    };
    path::specifiers(base, path).into_iter().map(one).collect()
}

/// Disables enforcement: there is nothing to protect, and the answer must not depend on the agent.
fn open_door() -> HashMap<String, google::Any> {
    HashMap::from([DOOR.off()])
}

/// Refuses TRACE where the listener does not, in the layout without scopes.
pub(super) fn no_trace() -> Route {
    let route = envoy::Route {
        r#match: Some(envoy::RouteMatch {
            path_specifier: Some(path::prefix("/")),
            headers: vec![pseudo(":method", ir::ValueRule::Exact("TRACE".to_owned()))],
            ..Default::default()
        }),
        ..answer(404, "no_route", "No such route")
    };
    Route::new(&route, "/", Arc::new(Reach::all()))
}

/// A problem document instead of an upstream.
fn answer(status: u32, code: &str, title: &str) -> envoy::Route {
    // Envoy made the request id itself at this point, so it needs no escaping.
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{status},\"code\":\"{code}\",\
         \"request_id\":\"%REQ(X-REQUEST-ID)%\"}}"
    );
    let format = core::SubstitutionFormatString {
        content_type: "application/problem+json".to_owned(),
        format: Some(core::substitution_format_string::Format::TextFormatSource(inline(&body))),
        ..Default::default()
    };
    envoy::Route {
        typed_per_filter_config: open_door(),
        action: Some(envoy::route::Action::DirectResponse(envoy::DirectResponseAction {
            status,
            body_format: Some(format),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Whether anybody may call it without a limit, so that it can be served without an agent.
fn needs_no_decision(publish: &ir::Content, route: &ir::Route) -> bool {
    // Each policy is named, so that a new one does not compile before it is decided who enforces
    // it.
    let ir::Policies { request_headers: _, response_headers: _, ip_access: _, cors: _, rate_limit } =
        &route.policies;
    publish.auth_mode == ir::AuthMode::None && rate_limit.is_none()
}

/// What a decision needs to know of a route; calls of a route without it are refused.
fn said(publish: &ir::Content, route: &ir::Route) -> BTreeMap<String, String> {
    // The base path is last: it is the only one of the three that may have a space.
    let said = format!("{} {} {}", publish.access, route.id, publish.base_path);
    let mut all = BTreeMap::from([(context::ROUTE.to_owned(), said)]);
    if !publish.keys.is_empty() {
        all.insert(context::KEYS.to_owned(), publish.keys.clone());
    }
    all
}

/// The same for the agent.
fn check(
    filter: Filter<authz::ExtAuthz, authz::ExtAuthzPerRoute>,
    context_extensions: BTreeMap<String, String>,
) -> HashMap<String, google::Any> {
    let settings = canon::ExtAuthzPerRoute {
        check_settings: Some(canon::CheckSettings { context_extensions }),
    };
    HashMap::from([filter.on_route_encoded(settings.encode_to_vec())])
}

/// The same for the module.
fn metadata(said: BTreeMap<String, String>) -> canon::WithMetadata {
    let text = |(key, string_value)| (key, canon::Text { string_value });
    let fields = canon::Fields { fields: said.into_iter().map(text).collect() };
    let filter_metadata = BTreeMap::from([(DOOR.name().to_owned(), fields)]);
    canon::WithMetadata { metadata: Some(canon::Metadata { filter_metadata }) }
}

fn matches(
    route: &ir::Route,
    specifier: envoy::route_match::PathSpecifier,
    below: Option<&str>,
) -> envoy::RouteMatch {
    let below = below.map(|start| pseudo(":path", ir::ValueRule::Prefix(start.to_owned())));
    let own = below.into_iter().chain(method_matcher(&route.methods));
    envoy::RouteMatch {
        path_specifier: Some(specifier),
        headers: own
            .chain(route.headers.iter().map(conditions::header))
            .chain(route.query.iter().filter_map(conditions::spelled))
            .collect(),
        query_parameters: route.query.iter().filter_map(conditions::as_sent).collect(),
        ..Default::default()
    }
}

fn method_matcher(methods: &[String]) -> Option<envoy::HeaderMatcher> {
    let rule = match methods {
        [] => return None,
        [one] => ir::ValueRule::Exact(one.clone()),
        several => ir::ValueRule::Regex(several.join("|")),
    };
    Some(pseudo(":method", rule))
}

fn pseudo(name: &str, rule: ir::ValueRule) -> envoy::HeaderMatcher {
    conditions::header(&ir::ValueMatch { name: name.to_owned(), rule })
}

fn action(
    base: &str,
    route: &ir::Route,
    cluster_of: &mut dyn FnMut(&ir::Backend) -> String,
) -> envoy::RouteAction {
    use envoy::route_action::HostRewriteSpecifier::HostRewriteLiteral;
    let (prefix_rewrite, regex_rewrite) = match rewrite::render(base, route) {
        None => (String::new(), None),
        Some(Rewrite::Prefix(to)) => (to, None),
        Some(Rewrite::Regex(rule)) => (String::new(), Some(rule)),
    };
    let (timeout, idle_timeout) = upgrade::limits(route);
    envoy::RouteAction {
        cluster_specifier: Some(clusters(&route.backends, cluster_of)),
        prefix_rewrite,
        regex_rewrite,
        append_x_forwarded_host: route.rewrite_host.is_some(),
        host_rewrite_specifier: route.rewrite_host.clone().map(HostRewriteLiteral),
        timeout,
        idle_timeout,
        upgrade_configs: upgrade::upgrades(route),
        retry_policy: retry::of_route(route),
        ..Default::default()
    }
}

fn clusters(
    backends: &[ir::WeightedBackend],
    cluster_of: &mut dyn FnMut(&ir::Backend) -> String,
) -> envoy::route_action::ClusterSpecifier {
    use envoy::route_action::ClusterSpecifier::{Cluster, WeightedClusters};
    if let [one] = backends {
        return Cluster(cluster_of(&one.backend));
    }
    // No settings here: they would override the route's.
    let weight = |backend: &ir::WeightedBackend| envoy::weighted_cluster::ClusterWeight {
        name: cluster_of(&backend.backend),
        weight: uint(backend.weight),
        ..Default::default()
    };
    WeightedClusters(envoy::WeightedCluster {
        clusters: backends.iter().map(weight).collect(),
        ..Default::default()
    })
}
