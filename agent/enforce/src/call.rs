//! A call to decide about.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    pub publish: PublishKey<'a>,
    pub route_id: &'a str,
    /// The digest of the access rules that the route names; empty if it names none.
    pub access: &'a str,
    /// The only gateway that the asking Envoy may serve; `None` for any.
    pub gateway_id: Option<&'a str>,
    /// The caller's credential.
    pub credential: Presented<'a>,
    /// The caller's address, if the gateway sends it.
    pub client: Option<IpAddr>,
    pub now: DateTime<Utc>,
}

/// What identifies the publish of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishKey<'a> {
    /// Its id, which routes of a former release name; empty if the route does not name one.
    Id(&'a str),
    /// Its place. The owner in the digest of the access rules belongs to it, so that a place that
    /// went to another product does not judge the former one's routes.
    Place {
        /// Without a port, as the scope was found by it.
        host: &'a str,
        base_path: &'a str,
    },
}

/// A caller's credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No credential.
    None,
    /// An API key.
    Key(&'a str),
    /// A bearer token (RFC 6750).
    BearerToken(&'a str),
    /// A client certificate, DER.
    Certificate(&'a [u8]),
    /// More than one of a kind, so it is unclear which one is meant.
    Several,
}
