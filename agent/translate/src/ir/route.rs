//! Routes from the wire.

use std::collections::HashMap;
use std::sync::Arc;

use imp_proto::config as pb;
use pb::{path_match, policy, value_match};

use super::grammar::{self, Fault};
use super::{
    Backend, Headers, ParseError, PathMatch, Route, ValueMatch, ValueRule, WeightedBackend,
};

const TIMEOUT_MS: u32 = 15_000;
const MAX_TIMEOUT_MS: u32 = 3_600_000;

type Backends<'a> = HashMap<&'a str, Arc<Backend>>;

pub(super) fn parse(
    message: &pb::Route,
    of_service: &Policies,
    backends: &Backends<'_>,
) -> Result<Route, ParseError> {
    let mut methods = Vec::with_capacity(message.methods.len());
    for (index, method) in message.methods.iter().enumerate() {
        let method = grammar::method(method)
            .map_err(|fault| ParseError::new(format!("methods/{index}"), fault))?;
        methods.push(method);
    }
    let rewrite = message.rewrite.clone().unwrap_or_default();
    let policies = Policies::parse(&message.policies)?.or(of_service);
    Ok(Route {
        id: grammar::id(&message.id).map_err(|fault| ParseError::new("id", fault))?,
        path: parse_path(message.path.as_ref()).map_err(|fault| ParseError::new("path", fault))?,
        methods,
        headers: parse_matches("headers", &message.headers, grammar::header_name)?,
        query: parse_matches("query", &message.query, grammar::name)?,
        priority: message.priority,
        backends: parse_backends(&message.backends, backends)?,
        rewrite_path: optional("rewrite/path", &rewrite.path, grammar::path)?,
        rewrite_host: optional("rewrite/host", &rewrite.host, grammar::hostname)?,
        timeout_ms: grammar::milliseconds(message.timeout_ms, TIMEOUT_MS, MAX_TIMEOUT_MS)
            .map_err(|fault| ParseError::new("timeout_ms", fault))?,
        request_headers: policies.request_headers.unwrap_or_default(),
        response_headers: policies.response_headers.unwrap_or_default(),
    })
}

fn optional(
    field: &str,
    text: &str,
    check: impl Fn(&str) -> Result<String, Fault>,
) -> Result<Option<String>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    check(text).map(Some).map_err(|fault| ParseError::new(field, fault))
}

fn parse_path(message: Option<&pb::PathMatch>) -> Result<PathMatch, Fault> {
    use path_match::Kind;
    match message.and_then(|path| path.kind.as_ref()).ok_or(Fault::Missing)? {
        Kind::Exact(path) => grammar::path(path).map(PathMatch::Exact),
        Kind::Prefix(path) => grammar::path(path).map(PathMatch::Prefix),
        Kind::Template(path) => grammar::template(path).map(PathMatch::Template),
        Kind::Regex(regex) => grammar::regex(regex).map(PathMatch::Regex),
    }
}

fn parse_matches(
    list: &str,
    messages: &[pb::ValueMatch],
    name: impl Fn(&str) -> Result<String, Fault>,
) -> Result<Vec<ValueMatch>, ParseError> {
    use value_match::Kind;
    let parse = |message: &pb::ValueMatch| {
        let rule = match message.kind.as_ref().ok_or(Fault::Missing)? {
            Kind::Exact(value) => ValueRule::Exact(grammar::text(value)?),
            Kind::Prefix(value) if value.is_empty() => return Err(Fault::Missing),
            Kind::Prefix(value) => ValueRule::Prefix(grammar::text(value)?),
            Kind::Regex(regex) => ValueRule::Regex(grammar::regex(regex)?),
            Kind::Present(present) => ValueRule::Present(*present),
        };
        Ok(ValueMatch { name: name(&message.name)?, rule })
    };
    let at = |index| move |fault| ParseError::new(format!("{list}/{index}"), fault);
    messages.iter().enumerate().map(|(index, m)| parse(m).map_err(at(index))).collect()
}

fn parse_backends(
    messages: &[pb::WeightedBackend],
    known: &Backends<'_>,
) -> Result<Vec<WeightedBackend>, ParseError> {
    let mut backends = Vec::with_capacity(messages.len());
    for (index, message) in messages.iter().enumerate() {
        let backend = known.get(message.backend_id.as_str()).ok_or_else(|| {
            let fault = Fault::UnknownBackend(message.backend_id.clone());
            ParseError::new(format!("backends/{index}"), fault)
        })?;
        if message.weight > 0 {
            backends.push(WeightedBackend { backend: backend.clone(), weight: message.weight });
        }
    }
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    if backends.is_empty() {
        return Err(ParseError::new("backends", Fault::Missing));
    }
    if u32::try_from(total).is_err() {
        return Err(ParseError::new("backends", Fault::OutOfRange(total)));
    }
    Ok(backends)
}

/// The policies of a service or of a route.
#[derive(Default)]
pub(super) struct Policies {
    request_headers: Option<Arc<Headers>>,
    response_headers: Option<Arc<Headers>>,
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
        let (place, headers) = match &message.kind {
            Some(policy::Kind::RequestHeaders(headers)) => (&mut self.request_headers, headers),
            Some(policy::Kind::ResponseHeaders(headers)) => (&mut self.response_headers, headers),
            // Enforced by the agent. Each type is named, so that a new one does not compile before it
            // is handled.
            Some(policy::Kind::RateLimit(_)) => return Ok(()),
            None => return Err(ParseError::new("kind", Fault::Missing)),
        };
        if place.is_none() {
            *place = Some(Arc::new(parse_headers(headers)?));
        }
        Ok(())
    }

    /// A route's policy takes the place of its service's, type by type.
    fn or(self, service: &Self) -> Self {
        Self {
            request_headers: self.request_headers.or_else(|| service.request_headers.clone()),
            response_headers: self.response_headers.or_else(|| service.response_headers.clone()),
        }
    }
}

/// The contract's order is set, add, remove; Envoy removes first. So what would be removed in the
/// end is not set at all.
fn parse_headers(message: &pb::Headers) -> Result<Headers, ParseError> {
    let mut remove = Vec::with_capacity(message.remove.len());
    for (index, name) in message.remove.iter().enumerate() {
        let name = grammar::writable_header(name)
            .map_err(|fault| ParseError::new(format!("remove/{index}"), fault))?;
        remove.push(name);
    }
    let pairs = |list: &str, headers: &[pb::Header]| {
        let mut pairs = Vec::with_capacity(headers.len());
        for (index, header) in headers.iter().enumerate() {
            let at = |fault| ParseError::new(format!("{list}/{index}"), fault);
            let name = grammar::writable_header(&header.name).map_err(at)?;
            let value = grammar::header_value(&header.value).map_err(at)?;
            if !remove.contains(&name) {
                pairs.push((name, value));
            }
        }
        Ok(pairs)
    };
    let set = pairs("set", &message.set)?;
    let add = pairs("add", &message.add)?;
    Ok(Headers { set, add, remove })
}
