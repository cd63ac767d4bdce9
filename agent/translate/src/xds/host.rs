//! One host: which of its publishes takes a call.
//!
//! A publish owns everything under its base path: what it has no route for is 404 and doesn't fall
//! through to a publish above it, which may ask for less.

mod tree;

use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use prost::Message;

use super::route;
use super::scope::{Member, Route};

/// Up to so many base paths stand in one list, of which Envoy takes the first route that matches.
/// 1,000 routes in a list cost 57 us per call, so more base paths make a tree.
const FEW: usize = 8;

/// All that is under one base path and not under a deeper one.
struct Group<'a> {
    base: &'a str,
    routes: Vec<Route>,
}

/// A virtual host, encoded.
pub(super) fn render<M: Member>(name: String, domain: &str, members: &[&M]) -> Vec<u8> {
    let groups = groups(members);
    let mut host =
        envoy::VirtualHost { name, domains: vec![domain.to_owned()], ..Default::default() };
    if groups.len() > FEW {
        let mut bytes = host.encode_to_vec();
        bytes.extend(tree::encode(&groups));
        return bytes;
    }
    host.routes.push(route::no_trace());
    host.routes.extend(groups.into_iter().flat_map(|group| group.routes));
    host.encode_to_vec()
}

/// Deeper base paths first.
fn groups<'a, M: Member>(members: &[&'a M]) -> Vec<Group<'a>> {
    let mut members = members.to_vec();
    members.sort_by_key(|member| {
        let publish = member.publish();
        let base = publish.base_path.as_str();
        (std::cmp::Reverse(depth(base)), base.to_owned(), publish.id.clone())
    });
    let bases: Vec<&str> = members.iter().map(|m| m.publish().base_path.as_str()).collect();
    let of_base = members.chunk_by(|a, b| a.publish().base_path == b.publish().base_path);
    let mut groups = Vec::new();
    for chunk in of_base {
        let Some(first) = chunk.first().map(|member| member.publish()) else { continue };
        let base = first.base_path.as_str();
        let mut routes: Vec<Route> = chunk.iter().flat_map(|m| m.routes().to_vec()).collect();
        let above = bases.iter().any(|other| holds(other, base));
        if above && !chunk.iter().any(|member| member.publish().suspended) {
            routes.push(route::closed(first, 404, "no_route", "No such route"));
        }
        groups.push(Group { base, routes });
    }
    groups
}

impl Group<'_> {
    /// The routes that take the base path itself, without a slash behind it.
    fn of_base_itself(&self) -> Vec<Route> {
        let takes = |route: &&Route| {
            let specifier = route.r#match.as_ref().and_then(|m| m.path_specifier.as_ref());
            match specifier {
                Some(PathSpecifier::Path(path) | PathSpecifier::PathSeparatedPrefix(path)) => {
                    path == self.base
                }
                _ => false,
            }
        };
        self.routes.iter().filter(takes).cloned().collect()
    }
}

fn depth(base_path: &str) -> usize {
    base_path.split('/').filter(|segment| !segment.is_empty()).count()
}

/// Whether `inner` lies under `outer`, and is not the same.
fn holds(outer: &str, inner: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    inner.strip_prefix(outer).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}
