//! Policies from the wire, those that Envoy enforces: one module per type.

mod cors;
mod headers;
mod ip_access;

use std::sync::Arc;

use imp_proto::config as pb;
use pb::policy::Kind;

use super::ParseError;
use super::grammar::Fault;

pub use cors::Cors;
pub use headers::Headers;
pub use ip_access::IpAccess;

/// The policies of a service, or those that apply to a route. What is shared between routes is one
/// object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    /// What the upstream sees.
    pub request_headers: Option<Arc<Headers>>,
    /// What the caller sees.
    pub response_headers: Option<Arc<Headers>>,
    /// From where calls may come.
    pub ip_access: Option<Arc<IpAccess>>,
    /// Which web pages may call.
    pub cors: Option<Arc<Cors>>,
}

impl Policies {
    /// Of two of a type the first counts.
    pub(super) fn parse(messages: &[pb::Policy]) -> Result<Self, ParseError> {
        let mut policies = Self::default();
        for (index, message) in messages.iter().enumerate() {
            policies.add(message).map_err(|error| error.within(format!("policies/{index}")))?;
        }
        Ok(policies)
    }

    fn add(&mut self, message: &pb::Policy) -> Result<(), ParseError> {
        match &message.kind {
            Some(Kind::RequestHeaders(it)) => {
                first(&mut self.request_headers, || headers::parse(it))
            }
            Some(Kind::ResponseHeaders(it)) => {
                first(&mut self.response_headers, || headers::parse(it))
            }
            Some(Kind::IpAccess(it)) => first(&mut self.ip_access, || ip_access::parse(it)),
            Some(Kind::Cors(it)) => first(&mut self.cors, || cors::parse(it)),
            // Enforced by the agent. Each type is named, so that a new one does not compile before it
            // is handled.
            Some(Kind::RateLimit(_)) => Ok(()),
            None => Err(ParseError::new("kind", Fault::Missing)),
        }
    }

    /// A route's policy takes the place of its service's, type by type.
    pub(super) fn or(self, service: &Self) -> Self {
        Self {
            request_headers: self.request_headers.or_else(|| service.request_headers.clone()),
            response_headers: self.response_headers.or_else(|| service.response_headers.clone()),
            ip_access: self.ip_access.or_else(|| service.ip_access.clone()),
            cors: self.cors.or_else(|| service.cors.clone()),
        }
    }
}

fn first<T>(
    place: &mut Option<Arc<T>>,
    parse: impl FnOnce() -> Result<T, ParseError>,
) -> Result<(), ParseError> {
    if place.is_none() {
        *place = Some(Arc::new(parse()?));
    }
    Ok(())
}

/// Each of a list, or where the first fault is.
fn each<T>(
    list: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, ParseError> {
    let at = |index| move |fault| ParseError::new(format!("{list}/{index}"), fault);
    texts.iter().enumerate().map(|(index, text)| parse(text).map_err(at(index))).collect()
}
