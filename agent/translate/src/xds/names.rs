//! The names of resources, created and parsed in one place, and names that renderers share. A port
//! belongs to no gateway: several may share it, and the hosts decide.

use super::type_url::{ROUTES, SCOPE};

/// The headers that make the scope's key. Clients cannot send them, upstreams do not see them.
pub(super) const KEY_PORT: &str = "x-imp-port";
pub(super) const KEY_HOST: &str = "x-imp-host";

/// Host keys that no scope has, for calls that must be refused. The reply mapper derives the reason
/// from them.
pub(super) mod no_scope {
    /// The host is not in lower case. (Envoy cannot lower it before the scope is looked up.)
    pub(crate) const SPELLING: &str = "!421";
    /// More headers than are allowed.
    pub(crate) const TOO_MANY_HEADERS: &str = "!many";
    /// Larger headers than are allowed.
    pub(crate) const HEADERS_TOO_LARGE: &str = "!large";
    /// A header has `_` in its name.
    pub(crate) const UNDERSCORE: &str = "!underscore";
    /// The path has a `%2F` that is not served.
    pub(crate) const SLASH: &str = "!slash";
}

/// The policy in the enforcement slot until its filter has arrived, which refuses everyone. Like
/// the next two, it tells the reply mapper what was refused.
pub(super) const NO_DOOR: &str = "imp_no_door";

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
    pub host: Option<String>,
}

/// The listener of a port.
pub fn listener(port: u16) -> String {
    format!("port-{port}")
}

/// The port of a listener.
pub fn listener_port(name: &str) -> Option<u16> {
    name.strip_prefix("port-")?.parse().ok()
}

/// The scope of a host at a port.
pub fn scope(port: u16, host: &str) -> String {
    format!("{port}/{host}")
}

/// The only RouteConfiguration of a port in [`super::Layout::WholeRds`].
pub fn routes(port: u16) -> String {
    format!("routes-{port}")
}

/// The place of a scope or RouteConfiguration of this name.
pub fn place(type_url: &str, name: &str) -> Option<Place> {
    if type_url == ROUTES {
        let port = name.strip_prefix("routes-")?.parse().ok()?;
        return Some(Place { port, host: None });
    }
    let (port, host) = name.split_once('/').filter(|_| type_url == SCOPE)?;
    Some(Place { port: port.parse().ok()?, host: Some(host.to_owned()) })
}

impl Place {
    /// The type of the resource for it.
    pub fn type_url(&self) -> &'static str {
        if self.host.is_some() { SCOPE } else { ROUTES }
    }

    /// The name of the resource for it.
    pub fn name(&self) -> String {
        match &self.host {
            Some(host) => scope(self.port, host),
            None => routes(self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_found_again() {
        for host in [Some("api.example.com".to_owned()), None] {
            let at = Place { port: 8443, host };
            assert_eq!(place(at.type_url(), &at.name()), Some(at));
        }
        assert_eq!(listener_port(&listener(80)), Some(80));
        for (type_url, name) in [(SCOPE, "g1/x"), (SCOPE, "80"), (ROUTES, "80/x"), ("t", "80/x")] {
            assert_eq!(place(type_url, name), None, "{name}");
        }
        assert_eq!(listener_port("gw-g1/http"), None);
    }
}
