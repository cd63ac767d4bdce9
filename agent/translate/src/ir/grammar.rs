//! The grammars of single values.

use imp_grammar::hosts::{self, EndpointHost};
use imp_grammar::path::PathFault;
use imp_grammar::{caps, headers, regexes};

/// A fault of a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A required value is missing.
    #[error("missing")]
    Missing,
    /// A duplicate of a unique value.
    #[error("'{0}' is there twice")]
    Duplicate(String),
    /// A reference to a missing backend.
    #[error("no backend '{0}' in this service")]
    UnknownBackend(String),
    /// A reference to a missing policy.
    #[error("no policy at place {0} of this publish")]
    UnknownPolicy(u32),
    /// A number out of range.
    #[error("{0} is out of range")]
    OutOfRange(u64),
    /// Valid, but not supported by this agent.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// Not an id.
    #[error("'{0}' is no id")]
    Id(String),
    /// Not a canonical hostname.
    #[error("'{0}' is no canonical hostname")]
    Hostname(String),
    /// Not a canonical path.
    #[error("'{0}' is no canonical path")]
    Path(String),
    /// Not a path that is routed.
    #[error("'{0}' is no path: {1}")]
    Route(String, PathFault),
    /// Not a regular expression, or too expensive.
    #[error("'{0}' is no regular expression that is accepted: {1}")]
    Regex(String, String),
    /// More items than allowed.
    #[error("{0}")]
    Exceeded(String),
    /// Not a header or query parameter that may have a key.
    #[error("'{0}' is no place for keys")]
    KeyLocation(String),
    /// Not a method.
    #[error("'{0}' is no method that is routed")]
    Method(String),
    /// Not a protocol that calls may upgrade to.
    #[error("calls may not upgrade to '{0}'")]
    Upgrade(String),
    /// Not a header name.
    #[error("'{0}' is no header name")]
    HeaderName(String),
    /// A header that belongs to the gateway.
    #[error("the header '{0}' belongs to the gateway")]
    ReservedHeader(String),
    /// Not a literal header value.
    #[error("'{0}' is no literal header value; a percent sign is written '%%'")]
    HeaderValue(String),
    /// Too long, or with control characters.
    #[error("'{0}' is too long or has control characters")]
    Text(String),
    /// Neither address nor name.
    #[error("'{0}' is neither an IP address nor a DNS name")]
    Host(String),
}

/// Parses an id. Ids become parts of resource names, which are split at '/' again.
pub(super) fn id(text: &str) -> Result<String, Fault> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if (1..=64).contains(&text.len()) && plain {
        return Ok(text.to_owned());
    }
    Err(Fault::Id(short(text)))
}

/// Parses a hostname in canonical form, as the API stores it.
pub(super) fn hostname(text: &str) -> Result<String, Fault> {
    match hosts::is_canonical(text) {
        true => Ok(text.to_owned()),
        false => Err(Fault::Hostname(short(text))),
    }
}

/// Parses a hostname or a wildcard in canonical form, as the API stores it.
pub(super) fn host_pattern(text: &str) -> Result<String, Fault> {
    match hosts::is_canonical_pattern(text) {
        true => Ok(text.to_owned()),
        false => Err(Fault::Hostname(short(text))),
    }
}

/// Parses a path: begins with '/', needs no escaping, and is unchanged by Envoy's path
/// normalisation.
pub(super) fn path(text: &str) -> Result<String, Fault> {
    let fault = || Fault::Path(short(text));
    let rest = text.strip_prefix('/').ok_or_else(fault)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,=:@".contains(&b);
    let mut segments: Vec<&str> = rest.split('/').collect();
    let dotted = segments.iter().any(|segment| matches!(*segment, "." | ".."));
    segments.pop();
    let hollow = segments.iter().any(|segment| segment.is_empty());
    if !caps::PATH_BYTES.admits(text.len()) || dotted || hollow || !text.bytes().all(plain) {
        return Err(fault());
    }
    Ok(text.to_owned())
}

/// Parses "/" or a path without a trailing slash.
pub(super) fn base_path(text: &str) -> Result<String, Fault> {
    match text {
        "" | "/" => Ok("/".to_owned()),
        _ if text.ends_with('/') => Err(Fault::Path(short(text))),
        _ => path(text),
    }
}

/// Parses a protocol that calls may upgrade to.
pub(super) fn upgrade(text: &str) -> Result<String, Fault> {
    match headers::is_upgrade(text) {
        true => Ok(text.to_owned()),
        false => Err(Fault::Upgrade(short(text))),
    }
}

/// Parses an expression. The API uses the same function; beyond that Envoy decides.
pub(super) fn regex(text: &str) -> Result<String, Fault> {
    match regexes::check(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(fault) => Err(Fault::Regex(short(text), fault.to_string())),
    }
}

/// Truncates a value for an error message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// CONNECT and TRACE are never routed.
pub(crate) const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

pub(super) fn method(text: &str) -> Result<String, Fault> {
    match METHODS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(Fault::Method(short(text))),
    }
}

/// Parses a header name: a token, in lower case.
pub(super) fn header_name(text: &str) -> Result<String, Fault> {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&b);
    if !text.is_empty() && caps::HEADER_NAME_BYTES.admits(text.len()) && text.bytes().all(token) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(Fault::HeaderName(short(text)))
}

/// Parses a header name that a policy may write.
pub(super) fn writable_header(text: &str) -> Result<String, Fault> {
    let name = header_name(text)?;
    if headers::is_reserved(&name) {
        return Err(Fault::ReservedHeader(name));
    }
    Ok(name)
}

/// Parses a header value: visible ASCII. A lone '%' would be a command to Envoy.
pub(super) fn header_value(text: &str) -> Result<String, Fault> {
    let visible = text.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\t');
    if !visible
        || !caps::HEADER_VALUE_BYTES.admits(text.len())
        || text.replace("%%", "").contains('%')
    {
        return Err(Fault::HeaderValue(short(text)));
    }
    Ok(text.to_owned())
}

/// Parses a value to match: any text without control characters.
pub(super) fn text(text: &str) -> Result<String, Fault> {
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return Err(Fault::Text(short(text)));
    }
    Ok(text.to_owned())
}

/// Parses a free-text name, of a listener or a query parameter.
pub(super) fn name(name: &str) -> Result<String, Fault> {
    match name.len() {
        0 => Err(Fault::Missing),
        1..=512 => text(name),
        _ => Err(Fault::Text(short(name))),
    }
}

/// Parses an IP address (IPv6 with or without brackets) or a DNS name.
pub(super) fn host(text: &str) -> Result<EndpointHost, Fault> {
    hosts::endpoint(text).map_err(|_| Fault::Host(short(text)))
}

/// The fault for an enum value that is unspecified or of a newer contract.
pub(super) fn unknown(number: i32) -> Fault {
    if number == 0 {
        Fault::Missing
    } else {
        Fault::Unsupported("a value of a newer control plane")
    }
}

/// Parses a port, 1 to 65,535.
pub(super) fn port(number: u32) -> Result<u16, Fault> {
    hosts::port(number).ok_or(Fault::OutOfRange(number.into()))
}

/// Parses a duration of at most `max`; 0 stands for `default`.
pub(super) fn milliseconds(number: u32, default: u32, max: u32) -> Result<u32, Fault> {
    match number {
        0 => Ok(default),
        _ if number <= max => Ok(number),
        _ => Err(Fault::OutOfRange(number.into())),
    }
}
