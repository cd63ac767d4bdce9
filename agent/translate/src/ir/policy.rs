//! Parses policies: one module per type. The control plane has resolved which apply to a route;
//! there is no precedence here.

mod cors;
mod headers;
mod ip_access;
mod rate_limit;

use std::collections::HashSet;
use std::sync::Arc;

use imp_proto::config as pb;
use pb::policy::Kind;

use super::error::ParseError;
use super::grammar::{self, Fault};

pub use cors::Cors;
pub use headers::Headers;
pub use ip_access::IpAccess;
pub use rate_limit::RateLimit;

/// The policies that apply to a route. Routes share equal policies as one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policies {
    /// Changes to the request's headers.
    pub request_headers: Option<Arc<Headers>>,
    /// Changes to the answer's headers.
    pub response_headers: Option<Arc<Headers>>,
    /// The addresses that calls may come from.
    pub ip_access: Option<Arc<IpAccess>>,
    /// The web pages that may call.
    pub cors: Option<Arc<Cors>>,
    /// A rate over all callers, counted by the agent.
    pub rate_limit: Option<Arc<RateLimit>>,
}

/// One policy of a publish.
pub(super) enum Policy {
    RequestHeaders(Arc<Headers>),
    ResponseHeaders(Arc<Headers>),
    IpAccess(Arc<IpAccess>),
    Cors(Arc<Cors>),
    RateLimit(Arc<RateLimit>),
}

/// Parses the list of a publish. Ids must be distinct, because they identify counters.
pub(super) fn parse(messages: &[pb::Policy]) -> Result<Vec<Policy>, ParseError> {
    let mut ids = HashSet::new();
    let parse = |message: &pb::Policy| {
        let id = grammar::id(&message.id).map_err(|fault| ParseError::new("id", fault))?;
        if !ids.insert(id.clone()) {
            return Err(ParseError::new("id", Fault::Duplicate(id)));
        }
        parse_one(id, message)
    };
    let indexed = messages.iter().map(parse).enumerate();
    let at = |index| move |error: ParseError| error.within(format!("policies/{index}"));
    indexed.map(|(index, parsed)| parsed.map_err(at(index))).collect()
}

fn parse_one(id: String, message: &pb::Policy) -> Result<Policy, ParseError> {
    Ok(match &message.kind {
        Some(Kind::RequestHeaders(it)) => Policy::RequestHeaders(headers::parse(it)?.into()),
        Some(Kind::ResponseHeaders(it)) => Policy::ResponseHeaders(headers::parse(it)?.into()),
        Some(Kind::IpAccess(it)) => Policy::IpAccess(ip_access::parse(it)?.into()),
        Some(Kind::Cors(it)) => Policy::Cors(cors::parse(it)?.into()),
        Some(Kind::RateLimit(it)) => Policy::RateLimit(rate_limit::parse(id, it).into()),
        None => return Err(ParseError::new("kind", Fault::Missing)),
    })
}

impl Policies {
    /// The policies at these indices of the publish's list.
    pub(super) fn pick(places: &[u32], listed: &[Policy]) -> Result<Self, ParseError> {
        let mut policies = Self::default();
        for (index, place) in places.iter().enumerate() {
            let at = |fault| ParseError::new(format!("policy_indexes/{index}"), fault);
            let found = usize::try_from(*place).ok().and_then(|place| listed.get(place));
            let policy = found.ok_or_else(|| at(Fault::UnknownPolicy(*place)))?;
            policies.add(policy).map_err(at)?;
        }
        Ok(policies)
    }

    fn add(&mut self, policy: &Policy) -> Result<(), Fault> {
        match policy {
            Policy::RequestHeaders(it) => once("request_headers", &mut self.request_headers, it),
            Policy::ResponseHeaders(it) => once("response_headers", &mut self.response_headers, it),
            Policy::IpAccess(it) => once("ip_access", &mut self.ip_access, it),
            Policy::Cors(it) => once("cors", &mut self.cors, it),
            Policy::RateLimit(it) => once("rate_limit", &mut self.rate_limit, it),
        }
    }
}

/// Refuses two policies of one type: the agent cannot choose which applies.
fn once<T>(kind: &str, place: &mut Option<Arc<T>>, policy: &Arc<T>) -> Result<(), Fault> {
    match place.replace(policy.clone()) {
        None => Ok(()),
        Some(_) => Err(Fault::Duplicate(kind.to_owned())),
    }
}
