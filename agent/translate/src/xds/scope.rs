//! Scopes: one per port and host, with all publishes of that host.

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use prost::Message;

use super::canon::hash;
use super::member::Member;
use super::route::Route;
use super::{ROUTES, Rendered, SCOPE, host, methods, names, route};
use crate::ir;

/// The routes of one publish. `cluster_of` names the cluster of a backend. A suspended publish
/// forwards nothing.
pub(crate) fn routes(
    publish: &ir::Publish,
    cluster_of: &mut dyn FnMut(&ir::Backend) -> String,
) -> Vec<Route> {
    if publish.suspended {
        return vec![route::closed(publish, 503, "publish_suspended", "Suspended")];
    }
    let mut renderer = route::Renderer::new(publish, cluster_of);
    let routes = publish.routes.iter().flat_map(|route| renderer.render(route));
    routes.chain(methods::wrong(publish)).collect()
}

/// The scope of one host.
pub(crate) fn render<M: Member>(port: u16, host: &str, members: &[&M]) -> Rendered {
    let name = names::scope(port, host);
    let fragment = |text: &str| envoy::scoped_route_configuration::key::Fragment {
        r#type: Some(envoy::scoped_route_configuration::key::fragment::Type::StringKey(
            text.to_owned(),
        )),
    };
    let hosts = Hosts { virtual_hosts: vec![host::render("v".to_owned(), "*", members)] };
    let mut routes = route::table(String::new());
    routes.metadata = Some(route::metadata("revisions", &revisions(members)));
    // If the content is resent unchanged after a rejection, Envoy takes the scope for one that it
    // already has; so the content includes its version.
    routes.name = format!("{name}#{}", hash(&hosts.with(&routes)));
    // An Envoy may have rejected these very bytes before.
    let stamp = members.iter().fold(0_u32, |sum, member| sum.wrapping_add(member.stamp()));
    if stamp > 0 {
        routes.name = format!("{}+{stamp}", routes.name);
    }
    let scope = envoy::ScopedRouteConfiguration {
        name: name.clone(),
        key: Some(envoy::scoped_route_configuration::Key {
            fragments: vec![fragment(&port.to_string()), fragment(host)],
        }),
        ..Default::default()
    };
    let mut bytes = scope.encode_to_vec();
    bytes.extend(Inline { routes: hosts.with(&routes) }.encode_to_vec());
    Rendered::new(SCOPE, name, bytes)
}

/// All hosts of a port in one RouteConfiguration, as (host, members).
pub(crate) fn render_whole<M: Member>(port: u16, hosts: &[(&str, Vec<&M>)]) -> Rendered {
    let virtual_hosts = hosts
        .iter()
        .map(|(host, members)| host::render((*host).to_owned(), host, members))
        .collect();
    let name = names::routes(port);
    let bytes = Hosts { virtual_hosts }.with(&route::table(name.clone()));
    Rendered::new(ROUTES, name, bytes)
}

/// The field `virtual_hosts` of a `RouteConfiguration`, its messages encoded already: see
/// [`super::canon`].
#[derive(Clone, PartialEq, Message)]
struct Hosts {
    #[prost(bytes = "vec", repeated, tag = "2")]
    virtual_hosts: Vec<Vec<u8>>,
}

impl Hosts {
    fn with(&self, routes: &envoy::RouteConfiguration) -> Vec<u8> {
        let mut bytes = routes.encode_to_vec();
        bytes.extend(self.encode_to_vec());
        bytes
    }
}

/// The field `route_configuration` of a `ScopedRouteConfiguration`, encoded already.
#[derive(Clone, PartialEq, Message)]
struct Inline {
    #[prost(bytes = "vec", tag = "5")]
    routes: Vec<u8>,
}

/// The same scope with other bytes, to send it again to an Envoy that rejected the message with it:
/// Envoy remembers the scope as its own and would ignore the same bytes.
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
