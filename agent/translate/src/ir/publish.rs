//! Parses publishes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use imp_grammar::headers;
use imp_proto::{bounds, config as pb, policies};

use super::grammar::{self, Fault};
use super::model::Hashed;
use super::policy::{self, Policy};
use super::{
    AuthMode, Backend, Balance, Content, Delivery, Endpoint, ParseError, Publish, Route, order,
};

const CONNECT_TIMEOUT_MS: u32 = 5_000;
const MAX_WEIGHT: u32 = 128;

impl Publish {
    /// Checks sizes before content, checks everything that a renderer relies on, resolves backends,
    /// and orders the routes.
    pub fn parse(message: &pb::Publish) -> Result<Self, ParseError> {
        let message = policies::present(message);
        bounds::publish(&message).map_err(exceeded)?;
        let policies = policy::parse(&message.policies)?;
        let mut routes = Vec::new();
        for (index, service) in message.api_services.iter().enumerate() {
            let parsed = parse_service(service, &policies)
                .map_err(|error| error.within(format!("api_services/{index}")))?;
            routes.extend(parsed);
        }
        routes.sort_by_cached_key(order::place);
        order::head_follows_get(&mut routes);
        let content = Content {
            gateway_id: parse_id("gateway_id", &message.gateway_id)?,
            tenant_id: message.tenant_id.clone(),
            product_id: message.product_id.clone(),
            environment: message.environment.clone(),
            auth_mode: parse_auth_mode(&message),
            base_path: grammar::base_path(&message.base_path)
                .map_err(|fault| ParseError::new("base_path", fault))?,
            suspended: message.suspended,
            delivery: parse_delivery(&message)?,
            access: String::new(),
            keys: keys(&message)?,
            routes,
            hashed: Hashed::default(),
        };
        Self::of(Arc::new(content), &message)
    }

    /// A publish with the content of this one, and with the id, revision and hosts of a message,
    /// of which nothing else is read. Sizes are not checked.
    pub fn with_own(&self, message: &pb::Publish) -> Result<Self, ParseError> {
        Self::of(self.content.clone(), message)
    }

    fn of(content: Arc<Content>, own: &pb::Publish) -> Result<Self, ParseError> {
        Ok(Self {
            id: parse_id("id", &own.id)?.into(),
            revision: own.revision,
            hostnames: parse_hostnames(&own.hostnames)?,
            kept_out: parse_hosts("kept_out_hosts", &own.kept_out_hosts)?,
            content,
        })
    }
}

fn parse_id(field: &str, text: &str) -> Result<String, ParseError> {
    grammar::id(text).map_err(|fault| ParseError::new(field, fault))
}

fn parse_auth_mode(message: &pb::Publish) -> AuthMode {
    use pb::publish::AuthMode as Mode;
    match message.auth_mode() {
        Mode::None => AuthMode::None,
        Mode::ApiKey => AuthMode::ApiKey,
        Mode::Unspecified | Mode::Oauth2 | Mode::Jwt | Mode::Mtls => AuthMode::Unsupported,
    }
}

fn parse_delivery(message: &pb::Publish) -> Result<Delivery, ParseError> {
    use pb::publish::Delivery as By;
    match By::try_from(message.delivery) {
        Ok(By::Auto) => Ok(Delivery::Auto),
        Ok(By::Xds) => Ok(Delivery::Xds),
        Ok(By::Crd) => Ok(Delivery::GatewayApi),
        Err(_) => Err(ParseError::new("delivery", grammar::unknown(message.delivery))),
    }
}

fn keys(message: &pb::Publish) -> Result<String, ParseError> {
    let (header, query) = (&message.key_header, &message.key_query);
    if !header.is_empty() && !headers::is_key_header(header) {
        return Err(ParseError::new("key_header", Fault::KeyLocation(grammar::short(header))));
    }
    if !query.is_empty() && !headers::is_key_parameter(query) {
        return Err(ParseError::new("key_query", Fault::KeyLocation(grammar::short(query))));
    }
    Ok(if header.is_empty() && query.is_empty() {
        String::new()
    } else {
        format!("{header}?{query}")
    })
}

pub(super) fn exceeded(exceeded: bounds::Exceeded) -> ParseError {
    let fault = Fault::Exceeded(format!("{} of {}", exceeded.found, exceeded.cap.words()));
    ParseError::new(exceeded.at, fault)
}

fn parse_hostnames(names: &[String]) -> Result<Vec<Arc<str>>, ParseError> {
    if names.is_empty() {
        return Err(ParseError::new("hostnames", Fault::Missing));
    }
    parse_hosts("hostnames", names)
}

/// Hosts and wildcards, none of them twice.
fn parse_hosts(field: &str, names: &[String]) -> Result<Vec<Arc<str>>, ParseError> {
    let mut seen = HashSet::new();
    let mut hostnames = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = || format!("{field}/{index}");
        let name = grammar::host_pattern(name).map_err(|fault| ParseError::new(at(), fault))?;
        let name: Arc<str> = name.into();
        if names.len() > 1 && !seen.insert(name.clone()) {
            return Err(ParseError::new(at(), Fault::Duplicate(name.to_string())));
        }
        hostnames.push(name);
    }
    Ok(hostnames)
}

fn parse_service(service: &pb::ApiService, policies: &[Policy]) -> Result<Vec<Route>, ParseError> {
    let mut backends = HashMap::new();
    for (index, backend) in service.backends.iter().enumerate() {
        let at = format!("backends/{index}");
        let parsed = parse_backend(backend).map_err(|error| error.within(&at))?;
        if backends.insert(backend.id.as_str(), Arc::new(parsed)).is_some() {
            return Err(ParseError::new(at, Fault::Duplicate(backend.id.clone())));
        }
    }
    let mut routes = Vec::with_capacity(service.routes.len());
    for (index, route) in service.routes.iter().enumerate() {
        let parsed = super::route::parse(route, policies, &backends)
            .map_err(|error| error.within(format!("routes/{index}")))?;
        routes.push(parsed);
    }
    Ok(routes)
}

fn parse_backend(message: &pb::Backend) -> Result<Backend, ParseError> {
    if message.endpoints.is_empty() {
        return Err(ParseError::new("endpoints", Fault::Missing));
    }
    let mut endpoints = Vec::with_capacity(message.endpoints.len());
    for (index, endpoint) in message.endpoints.iter().enumerate() {
        let parsed =
            parse_endpoint(endpoint).map_err(|error| error.within(format!("endpoints/{index}")))?;
        add(&mut endpoints, parsed);
    }
    let balance = match message.lb_policy() {
        pb::backend::LbPolicy::LeastRequest => Balance::LeastRequest,
        pb::backend::LbPolicy::Random => Balance::Random,
        pb::backend::LbPolicy::Unspecified if message.lb_policy != 0 => {
            return Err(ParseError::new("lb_policy", grammar::unknown(message.lb_policy)));
        }
        pb::backend::LbPolicy::RoundRobin | pb::backend::LbPolicy::Unspecified => {
            Balance::RoundRobin
        }
    };
    let connect_timeout_ms =
        grammar::milliseconds(message.connect_timeout_ms, CONNECT_TIMEOUT_MS, 600_000)
            .map_err(|fault| ParseError::new("connect_timeout_ms", fault))?;
    let (http2, is_tls) = match message.protocol() {
        pb::backend::Protocol::Http2 => (true, false),
        pb::backend::Protocol::Http1Tls => (false, true),
        pb::backend::Protocol::Http2Tls => (true, true),
        // Plain HTTP to a backend that expects a newer protocol, such as TLS, would expose calls.
        pb::backend::Protocol::Unspecified if message.protocol != 0 => {
            return Err(ParseError::new("protocol", grammar::unknown(message.protocol)));
        }
        pb::backend::Protocol::Http1 | pb::backend::Protocol::Unspecified => (false, false),
    };
    let settings = super::backend::settings(message, &endpoints, is_tls)?;
    Ok(Backend { endpoints, http2, balance, connect_timeout_ms, settings })
}

/// One that is there twice is one of both weights: Envoy would connect to it, and check it, twice.
fn add(endpoints: &mut Vec<Endpoint>, one: Endpoint) {
    let is_there = |it: &&mut Endpoint| (&it.host, it.port) == (&one.host, one.port);
    match endpoints.iter_mut().find(is_there) {
        Some(known) => known.weight = (known.weight + one.weight).min(MAX_WEIGHT),
        None => endpoints.push(one),
    }
}

fn parse_endpoint(message: &pb::Endpoint) -> Result<Endpoint, ParseError> {
    let host = grammar::host(&message.host).map_err(|fault| ParseError::new("host", fault))?;
    let port = grammar::port(message.port).map_err(|fault| ParseError::new("port", fault))?;
    match message.weight {
        0 => Ok(Endpoint { host, port, weight: 1 }),
        weight @ 1..=MAX_WEIGHT => Ok(Endpoint { host, port, weight }),
        weight => Err(ParseError::new("weight", Fault::OutOfRange(weight.into()))),
    }
}
