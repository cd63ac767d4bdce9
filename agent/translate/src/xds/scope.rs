//! Scopes: one per gateway and host, holding all publishes of that host.

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use prost::Message;

use super::canon::hash;
use super::{ROUTES, Rendered, SCOPE, route};
use crate::ir;

/// A rendered route.
pub(crate) type Route = envoy::Route;

/// A publish with its routes, rendered by [`routes`].
pub(crate) trait Member {
    fn publish(&self) -> &ir::Publish;
    fn routes(&self) -> &[Route];
}

/// The routes of one publish. `cluster_of` names the cluster of a backend. A suspended publish sends
/// nothing anywhere.
pub(crate) fn routes(
    publish: &ir::Publish,
    cluster_of: &mut dyn FnMut(&ir::Backend) -> String,
) -> Vec<Route> {
    if publish.suspended {
        return vec![route::closed(publish, 503, "publish_suspended", "Suspended")];
    }
    publish.routes.iter().flat_map(|from| route::render(publish, from, cluster_of)).collect()
}

/// The name of a scope.
pub fn name(gateway: &str, host: &str) -> String {
    format!("{gateway}/{host}")
}

/// The name of a gateway's RouteConfiguration in [`super::Layout::WholeRds`].
pub fn whole_name(gateway: &str) -> String {
    format!("gw-{gateway}")
}

/// The scope of one host.
pub(crate) fn render<M: Member>(gateway: &str, host: &str, members: &[&M]) -> Rendered {
    let name = name(gateway, host);
    let fragment = |text: &str| envoy::scoped_route_configuration::key::Fragment {
        r#type: Some(envoy::scoped_route_configuration::key::fragment::Type::StringKey(
            text.to_owned(),
        )),
    };
    let mut routes =
        route::validated(String::new(), vec![virtual_host("v".to_owned(), "*", members)]);
    routes.metadata = Some(route::metadata("revisions", &revisions(members)));
    // Resent unchanged after a refusal, Envoy would take a scope for one that it already has; so
    // the version of the content stands in the content.
    routes.name = format!("{name}#{}", hash(&routes.encode_to_vec()));
    let scope = envoy::ScopedRouteConfiguration {
        name: name.clone(),
        key: Some(envoy::scoped_route_configuration::Key {
            fragments: vec![fragment(gateway), fragment(host)],
        }),
        route_configuration: Some(routes),
        ..Default::default()
    };
    Rendered::new(SCOPE, name, scope.encode_to_vec())
}

/// All hosts of a gateway in one RouteConfiguration: (host, members).
pub(crate) fn render_whole<M: Member>(gateway: &str, hosts: &[(&str, Vec<&M>)]) -> Rendered {
    let virtual_hosts = hosts
        .iter()
        .map(|(host, members)| virtual_host((*host).to_owned(), host, members))
        .collect();
    let name = whole_name(gateway);
    let routes = route::validated(name.clone(), virtual_hosts);
    Rendered::new(ROUTES, name, routes.encode_to_vec())
}

/// The same scope in other bytes, for sending it again to an Envoy that refused the message it came
/// in: Envoy remembers the scope as its own and would ignore the same bytes.
pub fn restamp(scope: &[u8], attempt: u32) -> Result<Bytes, prost::DecodeError> {
    let mut scope = envoy::ScopedRouteConfiguration::decode(scope)?;
    if let Some(routes) = &mut scope.route_configuration {
        let stamped = routes.name.rsplit_once('~').map_or(routes.name.as_str(), |(name, _)| name);
        routes.name = format!("{stamped}~{attempt}");
    }
    Ok(scope.encode_to_vec().into())
}

fn revisions<M: Member>(members: &[&M]) -> String {
    let one = |member: &&M| format!("{}@{}", member.publish().id, member.publish().revision);
    members.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Longer base paths first. A publish owns all paths under its base path: what it has no route for
/// is 404 and doesn't fall through to a publish above it, which may ask for less.
fn virtual_host<M: Member>(name: String, domain: &str, members: &[&M]) -> envoy::VirtualHost {
    let mut members = members.to_vec();
    members.sort_by_key(|member| {
        let publish = member.publish();
        (std::cmp::Reverse(depth(&publish.base_path)), publish.id.clone())
    });
    let mut routes = vec![route::no_trace()];
    for (index, member) in members.iter().enumerate() {
        let publish = member.publish();
        routes.extend_from_slice(member.routes());
        if publish.suspended {
            continue;
        }
        let below = members.iter().skip(index + 1);
        if below.into_iter().any(|other| holds(&other.publish().base_path, &publish.base_path)) {
            routes.push(route::closed(publish, 404, "no_route", "No such route"));
        }
    }
    envoy::VirtualHost { name, domains: vec![domain.to_owned()], routes, ..Default::default() }
}

fn depth(base_path: &str) -> usize {
    base_path.split('/').filter(|segment| !segment.is_empty()).count()
}

/// Whether `inner` lies under `outer`, and is not the same.
fn holds(outer: &str, inner: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    inner.strip_prefix(outer).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}
