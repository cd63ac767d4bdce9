//! A call as the engine judges it, from what Envoy says of it. The agent's ext_authz service reads
//! the same from Envoy's question (`agent/src/ext_authz.rs`).

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use imp_enforce::{Call, KeyLocations, PublishKey, RouteContext};
use imp_grammar::headers::{AUTHORIZATION, CREDENTIAL, SCOPE_HOST};

use crate::envoy::Stream;
use crate::space::Free;

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
pub(crate) struct Asked<'s> {
    said: Said<'s>,
    keys: Cow<'s, str>,
    key: Option<Cow<'s, str>>,
    /// Read only without `key`, which takes precedence; so is the header that the route names for
    /// keys.
    authorization: Option<Cow<'s, str>>,
    named: Option<Cow<'s, str>>,
    /// Whether the call carries that header.
    has_named: bool,
    /// Read only if the route names a query parameter.
    path: Cow<'s, str>,
    /// What the call carries of [`IDENTITY`].
    claims: [bool; IDENTITY.len()],
}

/// Identity headers: set by the gateway or removed.
pub(crate) const IDENTITY: [&str; 4] =
    ["x-imp-consumer", "x-imp-subscription", "x-imp-customer", "x-imp-plan"];

/// Of which publish a route is.
#[derive(Debug)]
enum Said<'s> {
    Place {
        /// The route's text: the digest of its rules, its id and the base path.
        text: Cow<'s, str>,
        /// Where the digest and the id end.
        ends: [usize; 2],
        /// The host that the scope was found by.
        key: Cow<'s, str>,
    },
    Id {
        publish: Cow<'s, str>,
        route: Cow<'s, str>,
        access: Cow<'s, str>,
    },
}

impl<'s> Said<'s> {
    /// `None` if the route says nothing. Its host is still missing.
    fn read(stream: Stream, free: &mut Free<'s>) -> Option<Self> {
        let mut said = |key| stream.route_metadata(route_metadata::NAMESPACE, key, free);
        let route = said(route_metadata::ROUTE);
        let mut by_id = |route: Option<Cow<'s, str>>| {
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
        Some(Self::Place { text, ends, key: Cow::default() })
    }

    /// At this host, which is the scope's key.
    fn at(self, host: Option<Cow<'s, str>>) -> Self {
        match self {
            Self::Place { text, ends, .. } => {
                Self::Place { text, ends, key: host.unwrap_or_default() }
            }
            by_id => by_id,
        }
    }

    fn nobody() -> Self {
        let [publish, route, access] = [const { Cow::Borrowed("") }; 3];
        Self::Id { publish, route, access }
    }
}

impl<'s> Asked<'s> {
    /// `None` if there is no route, as far as a module can see: nothing says whose it is, and it
    /// leads to no upstream. A route that leads to one without an owner is nobody's.
    pub(crate) fn read(stream: Stream, free: &mut Free<'s>) -> Option<Self> {
        // First: after a filter has cleared the route cache, only this makes Envoy look for the
        // route again. Metadata alone would be the former route's, and the call would go to the next.
        let has_cluster = stream.has_cluster();
        let said = Said::read(stream, free);
        if said.is_none() && !has_cluster {
            return None;
        }
        let keys = stream.route_metadata(route_metadata::NAMESPACE, route_metadata::KEYS, free);
        let keys = keys.unwrap_or_default();
        let places = KeyLocations::parse(&keys);
        // No header has an empty name.
        let path = places.query.map_or("", |_| ":path");
        let named = places.header.unwrap_or_default();
        let [consumer, subscription, customer, plan] = IDENTITY;
        let is_authorization = named == AUTHORIZATION;
        let (host, key) = (SCOPE_HOST, CREDENTIAL);
        let names = [host, key, AUTHORIZATION, named, path, consumer, subscription, customer, plan];
        let [host, key, authorization, named, path, claims @ ..] =
            stream.request_headers(names, free);
        let has_named = named.is_some() || (is_authorization && authorization.is_some());
        let without_key = key.is_none();
        Some(Self {
            said: said.unwrap_or_else(Said::nobody).at(host),
            key,
            authorization: authorization.filter(|_| without_key),
            named: named.filter(|_| without_key),
            has_named,
            path: path.unwrap_or_default(),
            claims: claims.map(|claim| claim.is_some()),
            keys,
        })
    }

    /// Where callers of the route may send their key.
    pub(crate) fn keys(&self) -> KeyLocations<'_> {
        KeyLocations::parse(&self.keys)
    }

    /// The headers of the call that may have a key.
    pub(crate) fn key_headers(&self) -> impl Iterator<Item = &str> {
        let named = self.keys().header.filter(|_| self.has_named);
        self.key.as_ref().map(|_| CREDENTIAL).into_iter().chain(named)
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
