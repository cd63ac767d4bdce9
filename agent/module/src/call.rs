//! A call as the engine judges it, from what Envoy says of it. The agent's ext_authz service reads
//! the same from Envoy's question (`agent/src/ext_authz.rs`).

use chrono::{DateTime, Utc};
use imp_enforce::{Call, KeyLocations, PublishKey, RouteContext};
use imp_grammar::headers::{AUTHORIZATION, CREDENTIAL, SCOPE_HOST};

use crate::envoy::Stream;

/// The namespace of the route's metadata, and its keys: what a route says of itself. The same as in
/// `context_extensions` for ext_authz (`agent/translate/src/xds/door.rs`).
pub mod route_metadata {
    pub const NAMESPACE: &str = "imp.door";
    /// The digest of the access rules, the route's id and the base path ([`imp_enforce::RouteContext`]);
    /// beside [`PUBLISH`] the route's id alone.
    pub const ROUTE: &str = "route";
    /// Where callers may send their key ([`imp_enforce::KeyLocations`]).
    pub const KEYS: &str = "keys";
    /// The publish, on a route that names it by its id.
    pub const PUBLISH: &str = "publish";
    /// The digest of the access rules of such a route.
    pub const ACCESS: &str = "access";
}

/// What a decision needs of a call.
#[derive(Debug)]
pub(crate) struct Asked {
    said: Said,
    keys: String,
    key: Option<String>,
    /// Read only without `key`, which takes precedence; so is the header that the route names for
    /// keys.
    authorization: Option<String>,
    named: Option<String>,
    /// Read only if the route names a query parameter.
    path: String,
    /// What the call carries of [`IDENTITY`].
    claims: [bool; IDENTITY.len()],
}

/// Identity headers: set by the gateway or removed.
pub(crate) const IDENTITY: [&str; 4] =
    ["x-imp-consumer", "x-imp-subscription", "x-imp-customer", "x-imp-plan"];

/// Of which publish a route is.
#[derive(Debug)]
enum Said {
    Place {
        /// The route's text: the digest of its rules, its id and the base path.
        text: String,
        /// Where the digest and the id end.
        ends: [usize; 2],
        /// The host that the scope was found by.
        key: String,
    },
    Id {
        publish: String,
        route: String,
        access: String,
    },
}

impl Said {
    /// `None` if the route says nothing. `key` is the host's, of the scope.
    fn read(stream: Stream, key: Option<String>) -> Option<Self> {
        let said = |key| stream.route_metadata(route_metadata::NAMESPACE, key);
        let route = said(route_metadata::ROUTE);
        let by_id = |route: Option<String>| {
            let (publish, access) = (said(route_metadata::PUBLISH), said(route_metadata::ACCESS));
            if route.is_none() && publish.is_none() && access.is_none() {
                return None;
            }
            // Without an id it names no publish, so the call is refused.
            let [publish, route, access] = [publish, route, access].map(Option::unwrap_or_default);
            Some(Self::Id { publish, route, access })
        };
        let Some(text) = route else { return by_id(None) };
        let Some(RouteContext { access, route_id, .. }) = RouteContext::parse(&text) else {
            return by_id(Some(text));
        };
        let ends = [access.len(), access.len() + 1 + route_id.len()];
        Some(Self::Place { text, ends, key: key.unwrap_or_default() })
    }

    fn nobody() -> Self {
        Self::Id { publish: String::new(), route: String::new(), access: String::new() }
    }
}

impl Asked {
    /// `None` if there is no route, as far as a module can see: nothing says whose it is, and it
    /// leads to no upstream. A route that leads to one without an owner is nobody's.
    pub(crate) fn read(stream: Stream) -> Option<Self> {
        // First: after a filter has cleared the route cache, only this makes Envoy look for the
        // route again. Metadata alone would be the former route's, and the call would go to the next.
        let has_cluster = stream.has_cluster();
        let [consumer, subscription, customer, plan] = IDENTITY;
        let names = [SCOPE_HOST, CREDENTIAL, AUTHORIZATION, consumer, subscription, customer, plan];
        let [host, key, authorization, claims @ ..] = stream.request_headers(names);
        let said = Said::read(stream, host);
        if said.is_none() && !has_cluster {
            return None;
        }
        let keys = stream.route_metadata(route_metadata::NAMESPACE, route_metadata::KEYS);
        let keys = keys.unwrap_or_default();
        let places = KeyLocations::parse(&keys);
        let without_key = key.is_none();
        let authorization = authorization.filter(|_| without_key);
        let named = places.header.filter(|_| without_key);
        let named = named.and_then(|name| stream.request_header(name));
        let path = places.query.and_then(|_| stream.request_header(":path"));
        Some(Self {
            said: said.unwrap_or_else(Said::nobody),
            key,
            authorization,
            named,
            path: path.unwrap_or_default(),
            claims: claims.map(|claim| claim.is_some()),
            keys,
        })
    }

    /// Where callers of the route may send their key.
    pub(crate) fn keys(&self) -> KeyLocations<'_> {
        KeyLocations::parse(&self.keys)
    }

    /// Whether the call carries the key's own header.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Each of [`IDENTITY`], and whether the call carries it.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&'static str, bool)> {
        IDENTITY.into_iter().zip(self.claims)
    }

    /// The path of the call, if the route names a query parameter.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn call<'a>(&'a self, gateway: Option<&'a str>, now: DateTime<Utc>) -> Call<'a> {
        let (publish, route_id, access) = self.publish();
        let keys = self.keys();
        let header = |name: &str| match name {
            CREDENTIAL => self.key.as_deref(),
            AUTHORIZATION => self.authorization.as_deref(),
            name if keys.header == Some(name) => self.named.as_deref(),
            _ => None,
        };
        Call {
            publish,
            route_id,
            access,
            gateway_id: gateway,
            credential: keys.credential(header, &self.path),
            client: None,
            now,
        }
    }

    /// The publish, the route and the digest of its rules.
    fn publish(&self) -> (PublishKey<'_>, &str, &str) {
        match &self.said {
            Said::Id { publish, route, access } => (PublishKey::Id(publish), route, access),
            Said::Place { text, ends: [access, route], key } => {
                let part = |range| text.get(range).unwrap_or_default();
                let context = RouteContext {
                    access: part(0..*access),
                    route_id: part(access + 1..*route),
                    base_path: part(route + 1..text.len()),
                };
                (context.publish(key), context.route_id, context.access)
            }
        }
    }
}

/// A path without the values of this query parameter, and without the query if it had nothing else;
/// `None` if it has none, as for ext_authz.
pub(crate) fn without(path: &str, parameter: &str) -> Option<String> {
    let (before, query) = path.split_once('?')?;
    let is_other = |pair: &&str| pair.split('=').next() != Some(parameter);
    if query.split('&').all(|pair| is_other(&pair)) {
        return None;
    }
    let others: Vec<_> = query.split('&').filter(is_other).collect();
    let rest = others.join("&");
    Some(if rest.is_empty() { before.to_owned() } else { format!("{before}?{rest}") })
}

/// As Envoy knows it, which frames the answer accordingly. Not `application/grpc-web`.
pub(crate) fn is_grpc(stream: Stream) -> bool {
    let kind = stream.request_header("content-type");
    let behind = kind.as_deref().and_then(|kind| kind.strip_prefix("application/grpc"));
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_leaves_the_path() {
        let rest = |path| without(path, "key").unwrap_or_else(|| "as it was".to_owned());
        assert_eq!(rest("/a?key=1"), "/a");
        assert_eq!(rest("/a?b=2&key=1&a=%20+&key&c"), "/a?b=2&a=%20+&c");
        assert_eq!(rest("/a?key=1&"), "/a");
        for path in ["/a", "/a?", "/a?&", "/key=1", "/a?keys=1", "/a?b=key=1", "/a?%6Bey=1"] {
            assert_eq!(rest(path), "as it was", "{path}");
        }
    }
}
