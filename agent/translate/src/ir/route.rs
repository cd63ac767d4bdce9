//! Parses routes.

use std::collections::HashMap;
use std::sync::Arc;

use imp_grammar::path::{PathFault, Pattern};
use imp_proto::config as pb;
use pb::{path_match, value_match};

use super::error;
use super::grammar::{self, Fault};
use super::policy::{Policies, Policy};
use super::rewrite;
use super::{
    Backend, ParseError, PathMatch, Route, Stream, ValueMatch, ValueRule, WeightedBackend,
};

const TIMEOUT_MS: u32 = 15_000;
const IDLE_MS: u32 = 300_000;
const MAX_TIMEOUT_MS: u32 = 3_600_000;

type Backends<'a> = HashMap<&'a str, Arc<Backend>>;

pub(super) fn parse(
    message: &pb::Route,
    policies: &[Policy],
    backends: &Backends<'_>,
) -> Result<Route, ParseError> {
    let mut methods = Vec::with_capacity(message.methods.len());
    for (index, method) in message.methods.iter().enumerate() {
        let method = grammar::method(method)
            .map_err(|fault| ParseError::new(format!("methods/{index}"), fault))?;
        methods.push(method);
    }
    let said = message.rewrite.clone().unwrap_or_default();
    let (path, pattern) =
        parse_path(message.path.as_ref()).map_err(|fault| ParseError::new("path", fault))?;
    let target = |text: &str| rewrite::target(text, &path);
    let rewrite_path = optional("rewrite/path", &said.path, target)?;
    if said.strip_base_path && rewrite_path.is_some() {
        let fault = Fault::Unsupported("stripping beside a path");
        return Err(ParseError::new("rewrite/strip_base_path", fault));
    }
    Ok(Route {
        id: grammar::id(&message.id).map_err(|fault| ParseError::new("id", fault))?,
        path,
        pattern,
        methods,
        headers: parse_matches("headers", &message.headers, grammar::header_name)?,
        query: parse_matches("query", &message.query, grammar::name)?,
        priority: message.priority,
        backends: parse_backends(&message.backends, backends)?,
        rewrite_path,
        strip_base_path: said.strip_base_path,
        rewrite_host: optional("rewrite/host", &said.host, grammar::hostname)?,
        timeout_ms: grammar::milliseconds(message.timeout_ms, TIMEOUT_MS, MAX_TIMEOUT_MS)
            .map_err(|fault| ParseError::new("timeout_ms", fault))?,
        stream: parse_stream(message)?,
        policies: Policies::pick(&message.policy_indexes, policies)?,
    })
}

fn parse_stream(message: &pb::Route) -> Result<Option<Stream>, ParseError> {
    if !message.stream {
        return Ok(None);
    }
    let idle_ms = grammar::milliseconds(message.idle_timeout_ms, IDLE_MS, MAX_TIMEOUT_MS)
        .map_err(|fault| ParseError::new("idle_timeout_ms", fault))?;
    let mut upgrades = error::each("upgrades", &message.upgrades, grammar::upgrade)?;
    if upgrades.is_empty() {
        upgrades.push("websocket".to_owned());
    }
    Ok(Some(Stream { idle_ms, upgrades }))
}

pub(super) fn optional(
    field: &str,
    text: &str,
    check: impl Fn(&str) -> Result<String, Fault>,
) -> Result<Option<String>, ParseError> {
    if text.is_empty() {
        return Ok(None);
    }
    check(text).map(Some).map_err(|fault| ParseError::new(field, fault))
}

fn parse_path(message: Option<&pb::PathMatch>) -> Result<(PathMatch, Pattern), Fault> {
    use path_match::Kind;
    let read = |text: &str, read: fn(&str) -> Result<Pattern, PathFault>| {
        read(text).map_err(|fault| Fault::Route(grammar::short(text), fault))
    };
    Ok(match message.and_then(|path| path.kind.as_ref()).ok_or(Fault::Missing)? {
        Kind::Exact(path) => (PathMatch::Exact(path.clone()), read(path, Pattern::exact)?),
        Kind::Prefix(path) => (PathMatch::Prefix(path.clone()), read(path, Pattern::prefix)?),
        Kind::Template(path) => (PathMatch::Template(path.clone()), read(path, Pattern::template)?),
        Kind::Regex(regex) => {
            let regex = grammar::regex(regex)?;
            (PathMatch::Regex(regex.clone()), Pattern::Expression(regex))
        }
    })
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
