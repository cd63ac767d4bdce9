//! One call, as it is asked about.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

/// One call at the door.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Which publish the route belongs to; empty when the route did not say.
    pub publish_id: &'a str,
    /// Which route.
    pub route_id: &'a str,
    /// The digest of the rules that the route names; empty when it names none.
    pub access: &'a str,
    /// The one gateway that the Envoy that asks may serve; None: any.
    pub gateway_id: Option<&'a str>,
    /// What the caller shows.
    pub credential: Presented<'a>,
    /// Where the call comes from, if the gateway says.
    pub client: Option<IpAddr>,
    /// The time of the call.
    pub now: DateTime<Utc>,
}

/// What a caller shows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// Nothing.
    None,
    /// An API key.
    Key(&'a str),
    /// A bearer token (RFC 6750).
    BearerToken(&'a str),
    /// A client certificate, DER.
    Certificate(&'a [u8]),
    /// More than one of a kind: nobody can say which one is meant.
    Several,
}
