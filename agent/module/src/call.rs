//! A call as the engine judges it, from what Envoy says of it. The agent's ext_authz service reads
//! the same from Envoy's question (`agent/src/ext_authz.rs`).

use chrono::{DateTime, Utc};
use imp_enforce::{Call, KeyLocations, Presented, PublishKey};
use imp_grammar::headers::{AUTHORIZATION, CREDENTIAL};

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
            authorization: stream.request_header(AUTHORIZATION),
        })
    }

    pub(crate) fn call<'a>(&'a self, gateway: Option<&'a str>, now: DateTime<Utc>) -> Call<'a> {
        Call {
            publish: PublishKey::Id(&self.publish),
            route_id: &self.route,
            access: &self.access,
            gateway_id: gateway,
            credential: self.credential(),
            client: None,
            now,
        }
    }

    fn credential(&self) -> Presented<'_> {
        let header = |name: &str| match name {
            CREDENTIAL => self.key.as_deref(),
            AUTHORIZATION => self.authorization.as_deref(),
            _ => None,
        };
        KeyLocations::default().credential(header, "")
    }
}

/// As Envoy knows it, which frames the answer accordingly. Not `application/grpc-web`.
pub(crate) fn is_grpc(stream: Stream) -> bool {
    let kind = stream.request_header("content-type");
    let behind = kind.as_deref().and_then(|kind| kind.strip_prefix("application/grpc"));
    behind.is_some_and(|behind| behind.is_empty() || behind.starts_with('+'))
}
