//! A call as the engine judges it, from what Envoy says of it. The agent's ext_authz service reads
//! the same from Envoy's question (`agent/src/ext_authz.rs`).

use chrono::{DateTime, Utc};
use imp_enforce::{Call, Presented, PublishKey};
use imp_grammar::headers::CREDENTIAL;

use crate::envoy::Stream;

/// The namespace of the route's metadata, and its keys: what a route says of itself.
pub mod route_metadata {
    pub const NAMESPACE: &str = "imp.door";
    /// The publish.
    pub const PUBLISH: &str = "publish";
    /// The route.
    pub const ROUTE: &str = "route";
    /// The digest of the access rules of the route's revision.
    pub const ACCESS: &str = "access";
}

/// What a decision needs of a call.
#[derive(Debug)]
pub(crate) struct Asked {
    publish: String,
    route: String,
    access: String,
    key: Option<String>,
    authorization: Option<String>,
}

impl Asked {
    /// `None` if there is no route, as far as a module can see: nothing says whose it is, and it
    /// leads to no upstream. A route that leads to one without an owner is nobody's.
    pub(crate) fn read(stream: Stream) -> Option<Self> {
        let said = |key| stream.route_metadata(route_metadata::NAMESPACE, key);
        let publish = said(route_metadata::PUBLISH);
        if publish.is_none() && !stream.has_cluster() {
            return None;
        }
        Some(Self {
            publish: publish.unwrap_or_default(),
            route: said(route_metadata::ROUTE).unwrap_or_default(),
            access: said(route_metadata::ACCESS).unwrap_or_default(),
            key: stream.request_header(CREDENTIAL),
            authorization: stream.request_header("authorization"),
        })
    }

    pub(crate) fn call<'a>(&'a self, gateway: Option<&'a str>, now: DateTime<Utc>) -> Call<'a> {
        Call {
            publish: PublishKey::Id(&self.publish),
            route_id: &self.route,
            access: &self.access,
            gateway_id: gateway,
            credential: presented(self.key.as_deref(), self.authorization.as_deref()),
            client: None,
            now,
        }
    }
}

/// A key takes precedence over a token. Repeated headers are joined with a comma, which neither
/// contains.
fn presented<'a>(key: Option<&'a str>, authorization: Option<&'a str>) -> Presented<'a> {
    let (Some(value), is_key) = (match key {
        Some(key) => (Some(key), true),
        None => (authorization.and_then(bearer), false),
    }) else {
        return Presented::None;
    };
    match value {
        several if several.contains(',') => Presented::Several,
        key if is_key => Presented::Key(key),
        token => Presented::BearerToken(token),
    }
}

/// The bearer token (RFC 6750); the scheme is case-insensitive.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
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
    fn a_key_comes_before_a_token_and_two_of_a_kind_are_seen() {
        assert_eq!(presented(None, None), Presented::None);
        assert_eq!(presented(Some("k"), Some("Bearer t")), Presented::Key("k"));
        assert_eq!(presented(None, Some("bearer  t")), Presented::BearerToken("t"));
        assert_eq!(presented(None, Some("Basic t")), Presented::None);
        assert_eq!(presented(Some("one,two"), None), Presented::Several);
        assert_eq!(presented(Some(","), None), Presented::Several);
    }
}
