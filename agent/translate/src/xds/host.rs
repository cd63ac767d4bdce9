//! One host: which of its publishes takes a call.
//!
//! A publish owns everything under its base path: what it has no route for is 404 and doesn't fall
//! through to a publish above it, which may ask for less.

mod tree;

use std::borrow::Cow;

use envoy_types::pb::envoy::config::route::v3 as envoy;
use prost::Message;

use super::route;
use super::scope::{Member, Route};

/// Up to so many base paths stand in one list, of which Envoy takes the first route that matches.
/// 1,000 routes in a list cost 57 us per call, so more base paths make a tree.
const FEW: usize = 8;

/// The field `routes` of a virtual host.
const ROUTES: u32 = 3;

/// All that is under one base path and not under a deeper one.
struct Group<'a> {
    base: &'a str,
    routes: Vec<Cow<'a, Route>>,
}

/// A virtual host, encoded.
pub(super) fn render<M: Member>(name: String, domain: &str, members: &[&M]) -> Vec<u8> {
    let groups = groups(members);
    let host = envoy::VirtualHost { name, domains: vec![domain.to_owned()], ..Default::default() };
    let mut bytes = host.encode_to_vec();
    if groups.len() > FEW {
        bytes.extend(tree::encode(&groups));
        return bytes;
    }
    route::no_trace().append(ROUTES, &mut bytes);
    for route in groups.iter().flat_map(|group| &group.routes) {
        route.append(ROUTES, &mut bytes);
    }
    bytes
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
        let mut routes: Vec<_> = chunk.iter().flat_map(|m| m.routes()).map(Cow::Borrowed).collect();
        let above = bases.iter().any(|other| holds(other, base));
        if above && !chunk.iter().any(|member| member.publish().suspended) {
            routes.push(Cow::Owned(route::closed(first, 404, "no_route", "No such route")));
        }
        groups.push(Group { base, routes });
    }
    groups
}

fn depth(base_path: &str) -> usize {
    base_path.split('/').filter(|segment| !segment.is_empty()).count()
}

/// Whether `inner` lies under `outer`, and is not the same.
fn holds(outer: &str, inner: &str) -> bool {
    let outer = outer.trim_end_matches('/');
    inner.strip_prefix(outer).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}
