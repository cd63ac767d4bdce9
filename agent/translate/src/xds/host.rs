//! A host: selects which of its publishes takes a call.
//!
//! A publish owns everything under its base path: a path without a route is 404 and does not fall
//! through to a publish with a shorter base path, which may have weaker authentication.

mod group;
mod respelled;
mod split;
mod tree;

use envoy_types::pb::envoy::config::route::v3 as envoy;
use prost::Message;

use super::content::Content;
use super::{retry, route};
use group::groups;

/// The most base paths in a list, of which Envoy takes the first route that matches. 1,000 routes
/// in a list cost 57 us per call, so more base paths make a tree.
const FEW: usize = 8;

/// Up to so many routes of a base path stand in a list, too. Most templates are expressions, which cost more.
const MANY: usize = 32;

/// The field `routes` of a virtual host.
const ROUTES: u32 = 3;

/// Who refuses TRACE.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trace {
    /// The listener, before it looks up the scope.
    AtTheListener,
    /// Each host, in the layout without scopes.
    Refuse,
}

/// Renders a virtual host, encoded.
pub(super) fn render(name: String, domain: &str, members: &[&Content], trace: Trace) -> Vec<u8> {
    let groups = groups(members);
    let host = envoy::VirtualHost {
        name,
        domains: vec![domain.to_owned()],
        retry_policy: Some(retry::by_default()),
        ..Default::default()
    };
    let mut bytes = host.encode_to_vec();
    if groups.len() > FEW || groups.iter().any(|group| group.routes.len() > MANY) {
        bytes.extend(tree::encode(&groups, trace == Trace::Refuse));
        return bytes;
    }
    if trace == Trace::Refuse {
        route::no_trace().append(ROUTES, &mut bytes);
    }
    for route in groups.iter().flat_map(|group| &group.routes) {
        route.append(ROUTES, &mut bytes);
    }
    bytes
}
