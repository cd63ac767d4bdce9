//! Hosts: the hostnames of publishes and listeners, wildcards of them, and the addresses of endpoints. The API
//! accepts every spelling and stores the canonical one, the only one that agents accept.

use std::net::IpAddr;

/// The maximum length of a DNS name (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;
const LABEL_BYTES: usize = 63;

/// Why a text is not a hostname.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostFault {
    /// `*.example.com`.
    #[error("a wildcard is not possible here; name one host")]
    Wildcard,
    /// `*a.example.com`, `a.*.com`.
    #[error("a wildcard is '*.' before a DNS name, for every host below it, or '*' alone")]
    NotAWildcard,
    /// A port, a blank, an empty label, non-ASCII characters, or too long.
    #[error("a DNS name such as api.example.com: labels of a-z, 0-9 and '-', no port")]
    NotAName,
}

/// The canonical spelling of a hostname, which callers will send: lower case, no trailing dot.
pub fn canonical(text: &str) -> Result<String, HostFault> {
    if text.starts_with('*') {
        return Err(HostFault::Wildcard);
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if is_canonical(&name) { Ok(name) } else { Err(HostFault::NotAName) }
}

/// Whether a hostname is canonical.
pub fn is_canonical(name: &str) -> bool {
    name.len() <= NAME_BYTES && name.split('.').all(is_label)
}

/// The wildcard that takes every host.
pub const CATCH_ALL: &str = "*";

/// The canonical spelling of a hostname or a wildcard: `*.example.com` takes every host below `example.com`,
/// however many labels that has, and not `example.com` itself.
pub fn canonical_pattern(text: &str) -> Result<String, HostFault> {
    if !text.contains('*') {
        return canonical(text);
    }
    if text == CATCH_ALL {
        return Ok(text.to_owned());
    }
    let below = text.strip_prefix("*.").ok_or(HostFault::NotAWildcard)?;
    let pattern = format!("*.{}", canonical(below).map_err(|_| HostFault::NotAWildcard)?);
    if is_canonical_pattern(&pattern) { Ok(pattern) } else { Err(HostFault::NotAWildcard) }
}

/// Whether a hostname or wildcard is canonical.
pub fn is_canonical_pattern(text: &str) -> bool {
    let is_short = text.len() <= NAME_BYTES;
    text == CATCH_ALL || is_short && is_canonical(text.strip_prefix("*.").unwrap_or(text))
}

/// Whether a canonical hostname is a wildcard.
pub fn is_wildcard(pattern: &str) -> bool {
    pattern.starts_with('*')
}

/// The name below which a canonical wildcard takes hosts; `None` for [`CATCH_ALL`] and for hostnames.
pub fn below_wildcard(pattern: &str) -> Option<&str> {
    pattern.strip_prefix("*.")
}

/// `[a-z0-9]([a-z0-9-]*[a-z0-9])?`, at most 63 characters: a label of a canonical name, and the name of a
/// listener.
pub fn is_label(label: &str) -> bool {
    (1..=LABEL_BYTES).contains(&label.len())
        && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointHost {
    /// Needs no resolver.
    Address(IpAddr),
    /// Envoy resolves it. Canonical.
    Name(String),
}

/// Why a text is not an endpoint's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// Neither an address nor a name.
    #[error("an IP address or a DNS name")]
    Neither,
    /// `2130706433`, `0x7f.1`, `127.1`.
    #[error("write addresses in dotted decimal or as IPv6")]
    Numeric,
}

/// Parses the host of an endpoint: an address (IPv6 with or without brackets) or a DNS name.
pub fn endpoint(text: &str) -> Result<EndpointHost, EndpointFault> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Ok(EndpointHost::Address(address));
    }
    let name = canonical(text).map_err(|_| EndpointFault::Neither)?;
    match ends_in_a_number(&name) {
        true => Err(EndpointFault::Numeric),
        false => Ok(EndpointHost::Name(name)),
    }
}

/// `127.0.0.1`, `0x7f.1`, `2130706433`: resolvers and browsers read these as addresses.
pub fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// Converts a port that something can listen on.
pub fn port(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port > 0)
}
