//! The names of resources, created and parsed in one place, and names that renderers share. A port
//! belongs to no gateway: several may share it, and the hosts decide.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::type_url::{ROUTES, SCOPE};

/// The headers that make the scope's key. Clients cannot send them, upstreams do not see them.
pub(super) const KEY_PORT: &str = "x-imp-port";
pub(super) const KEY_HOST: &str = imp_grammar::headers::SCOPE_HOST;

/// Host keys that no scope has, for calls that must be refused. The reply mapper derives the reason
/// from them.
pub(super) mod no_scope {
    /// The host is not in lower case. (Envoy cannot lower it before the scope is looked up.)
    pub(crate) const SPELLING: &str = "!421";
    /// The module: the same word, for a call whose host is not the one that TLS was made for.
    pub(crate) const MISDIRECTED: &str = SPELLING;
    /// The module: the host is not written as hosts are. One that nobody serves is `!404`, which needs
    /// no reason of its own.
    pub(crate) const MALFORMED: &str = "!400";
    /// The module has nothing to decide from yet.
    pub(crate) const NOT_LOADED: &str = "!503";
    /// More headers than are allowed.
    pub(crate) const TOO_MANY_HEADERS: &str = "!many";
    /// Larger headers than are allowed.
    pub(crate) const HEADERS_TOO_LARGE: &str = "!large";
    /// A header has `_` in its name.
    pub(crate) const UNDERSCORE: &str = "!underscore";
    /// The path has a `%2F` that is not served.
    pub(crate) const SLASH: &str = "!slash";
    /// The method is TRACE, which would return the headers that the agent sets to the caller. The reply is
    /// that of an unknown host.
    pub(crate) const TRACE: &str = "!trace";
}

/// The policy in the enforcement slot until its filter has arrived, which refuses everyone. Like
/// the next two, it tells the reply mapper what was refused.
pub(super) const NO_DOOR: &str = "imp_no_door";

/// The first part of the key of a holder. That of a host is its port.
pub(super) const HOLDER: &str = "#";

/// The rule that refuses a caller's address.
pub(super) const ADDRESS_DENIED: &str = "imp_address";

/// The rule that refuses an upstream's address.
pub(super) const FORBIDDEN: &str = "imp_upstream";

/// Where a publish is served: a port and a host. Without a host in the layout with one table per
/// port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub port: u16,
    /// Exact, in lower case.
    pub host: Option<Arc<str>>,
}

/// 80 bits of a hash. Twenty hexadecimal digits and a letter are at most 22 bytes, which Envoy's
/// strings hold without an allocation of their own: with longer names each change costs Envoy a copy
/// of all names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Short([u8; 10]);

impl Short {
    /// Of these bytes.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        Self(digest.first_chunk().copied().unwrap_or_default())
    }

    fn read(hex: &str) -> Option<Self> {
        let mut bytes = [0; 10];
        let canonical = !hex.bytes().any(|byte| byte.is_ascii_uppercase());
        hex::decode_to_slice(hex, &mut bytes).ok().filter(|()| canonical)?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What the name of a scope or RouteConfiguration stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The place with this [`Place::id`].
    Place(Short),
    /// A table of routes that hosts share.
    Table(Short),
    /// The scope that makes Envoy ask for a table before a host needs it.
    Holder(Short),
}

/// The listener of a port.
pub fn listener(port: u16) -> String {
    format!("port-{port}")
}

/// The port of a listener.
pub fn listener_port(name: &str) -> Option<u16> {
    name.strip_prefix("port-")?.parse().ok()
}

/// The only RouteConfiguration of a port in [`super::Layout::WholeRds`].
pub fn routes(port: u16) -> String {
    format!("routes-{port}")
}

/// A table of routes that hosts share, by the hash of its content.
pub fn table(content: Short) -> String {
    format!("r{content}")
}

/// The holder of a table.
pub fn holder(content: Short) -> String {
    format!("h{content}")
}

/// What a scope or RouteConfiguration of this name is.
pub fn read(type_url: &str, name: &str) -> Option<Named> {
    match type_url {
        ROUTES => match name.strip_prefix("routes-") {
            Some(port) => {
                let place = Place { port: port.parse().ok()?, host: None };
                Some(Named::Place(place.id()))
            }
            None => Some(Named::Table(Short::read(name.strip_prefix('r')?)?)),
        },
        SCOPE => match name.strip_prefix('h') {
            Some(content) => Some(Named::Holder(Short::read(content)?)),
            None => Some(Named::Place(Short::read(name)?)),
        },
        _ => None,
    }
}

/// Whether a resource only makes Envoy ask for a table.
pub fn is_holder(type_url: &str, name: &str) -> bool {
    matches!(read(type_url, name), Some(Named::Holder(_)))
}

impl Place {
    /// The type of the resource for it.
    pub fn type_url(&self) -> &'static str {
        if self.host.is_some() { SCOPE } else { ROUTES }
    }

    /// Tells it from other places.
    pub fn id(&self) -> Short {
        Short::of(self.to_string().as_bytes())
    }

    /// The name of the resource for it.
    pub fn name(&self) -> String {
        if self.host.is_some() { self.id().to_string() } else { routes(self.port) }
    }
}

/// As people know it: port and host.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.port, self.host.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found_again() {
        for host in [Some("api.example.com".into()), None] {
            let at = Place { port: 8443, host };
            assert_eq!(read(at.type_url(), &at.name()), Some(Named::Place(at.id())));
        }
        let content = Short::of(b"content");
        assert_eq!(read(ROUTES, &table(content)), Some(Named::Table(content)));
        assert_eq!(read(SCOPE, &holder(content)), Some(Named::Holder(content)));
        assert_eq!(listener_port(&listener(80)), Some(80));
        let upper = content.to_string().to_uppercase();
        for (type_url, name) in [
            (SCOPE, "80/x"),
            (SCOPE, ""),
            (SCOPE, &*upper),
            (SCOPE, &*table(content)),
            (ROUTES, "80/x"),
            (ROUTES, &*holder(content)),
            ("t", &*content.to_string()),
        ] {
            assert_eq!(read(type_url, name), None, "{name}");
        }
        assert_eq!(listener_port("gw-g1/http"), None);
    }

    #[test]
    fn no_name_of_a_scope_or_table_is_longer_than_envoys_strings_hold_inside() {
        let place = Place { port: 65_535, host: Some("a".repeat(253).into()) };
        let content = Short::of(b"content");
        for name in [place.name(), table(content), holder(content)] {
            assert!(name.len() <= 22, "{name}");
        }
        let other = Place { port: 6553, host: Some(format!("5{}", "a".repeat(252)).into()) };
        assert_ne!(place.id(), other.id());
    }
}
