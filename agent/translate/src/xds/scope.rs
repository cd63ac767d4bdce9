//! Scopes: one per port and host, with all publishes of that host. The routes are in it, or in a
//! table that hosts with equal routes share ([`super::table`]).

use std::sync::Arc;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use imp_grammar::hosts::is_wildcard;
use prost::Message;

use super::content::Content;
use super::names::{HOLDER, Place, Short};
use super::table::{self, Hosts};
use super::{Rendered, SCOPE, names};

/// The scope of a host with its routes. `stamp` is 0 unless Envoys rejected these routes before.
pub(crate) fn inline(place: &Place, name: &Arc<str>, members: &[&Content], stamp: u32) -> Rendered {
    let routes = match stamp {
        0 => name.to_string(),
        stamp => format!("{name}+{stamp}"),
    };
    let routes = Hosts::one(members).with(&table::without_hosts(routes));
    let mut bytes = of_place(place, name).encode_to_vec();
    bytes.extend(Inline { routes }.encode_to_vec());
    Rendered::new(SCOPE, name.clone(), bytes)
}

/// The scope of a host whose routes are in a table of this name.
pub(crate) fn by_name(place: &Place, name: &Arc<str>, table: &Arc<str>) -> Rendered {
    let scope = envoy::ScopedRouteConfiguration {
        route_configuration_name: table.to_string(),
        ..of_place(place, name)
    };
    let rendered = Rendered::new(SCOPE, name.clone(), scope.encode_to_vec());
    Rendered { table: Some(table.clone()), ..rendered }
}

/// The scope that makes Envoy ask for a table. No call has its key: callers cannot set its first
/// part, which is the listener's port.
pub(crate) fn holder(table: Short) -> Rendered {
    let name = names::holder(table);
    let scope = envoy::ScopedRouteConfiguration {
        name: name.clone(),
        key: Some(key(HOLDER, &table.to_string())),
        route_configuration_name: names::table(table),
        ..Default::default()
    };
    Rendered::new(SCOPE, name, scope.encode_to_vec())
}

fn of_place(place: &Place, name: &str) -> envoy::ScopedRouteConfiguration {
    let host = place.host.as_deref().unwrap_or_default();
    envoy::ScopedRouteConfiguration {
        name: name.to_owned(),
        key: Some(key(&place.port.to_string(), host)),
        ..Default::default()
    }
}

fn key(first: &str, second: &str) -> envoy::scoped_route_configuration::Key {
    use envoy::scoped_route_configuration::key::{Fragment, fragment::Type::StringKey};
    let fragment = |text: &str| Fragment { r#type: Some(StringKey(text.to_owned())) };
    envoy::scoped_route_configuration::Key { fragments: vec![fragment(first), fragment(second)] }
}

/// The field `route_configuration` of a `ScopedRouteConfiguration`, encoded already.
#[derive(Clone, PartialEq, Message)]
struct Inline {
    #[prost(bytes = "vec", tag = "5")]
    routes: Vec<u8>,
}

/// A `ScopedRouteConfiguration` without its routes, which are most of it.
#[derive(Clone, PartialEq, Message)]
struct Head {
    #[prost(string, tag = "2")]
    route_configuration_name: String,
    #[prost(message, optional, tag = "3")]
    key: Option<envoy::scoped_route_configuration::Key>,
}

/// Whether a scope only names a table. Envoy has nothing to judge in it.
pub fn names_a_table(scope: &[u8]) -> bool {
    Head::decode(scope).is_ok_and(|head| !head.route_configuration_name.is_empty())
}

/// The name that the scope of a host had in releases before names were hashes: `<port>/<host>`.
/// Envoy refuses two scopes with one key, so the former one must go in the message that brings this
/// one.
pub fn former_name(scope: &[u8]) -> Option<String> {
    let (port, host) = key_of(scope)?;
    (port != HOLDER).then(|| format!("{port}/{host}"))
}

/// Whether only an Envoy with the module can find this scope.
pub fn is_of_a_wildcard(scope: &[u8]) -> bool {
    key_of(scope).is_some_and(|(port, host)| port != HOLDER && is_wildcard(&host))
}

/// Both parts of a scope's key.
fn key_of(scope: &[u8]) -> Option<(String, String)> {
    use envoy::scoped_route_configuration::key::fragment::Type::StringKey;
    let key = Head::decode(scope).ok()?.key?;
    let text = |StringKey(text)| text;
    let mut texts = key.fragments.into_iter().map(|fragment| fragment.r#type.map(text));
    Some((texts.next()??, texts.next()??))
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
