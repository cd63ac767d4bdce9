//! How far the proxies of a gateway are: a route that answers with the mark that was written last.
//!
//! A controller accepts objects and says nothing of proxies that refuse what became of them. A mark
//! that is written after a publish was accepted, and comes back from the proxies, says that they have
//! taken what came before it. The answer is a redirect, which is core Gateway API.

use serde_json::{Value, json};

use super::object::{HTTP_ROUTE, OPEN, Owner, PROBE, parent, set_label};
use crate::ir;

/// Where each listener answers.
pub const PATH: &str = "/.well-known/imp-gateway/probe";

/// The host of listeners that serve every one; nobody can have it (RFC 6761).
const NOBODY: &str = "probe.invalid";
/// The first label below a wildcard.
const LABEL: &str = "imp-gateway-probe";

/// What is asked about a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub port: u16,
    pub host: String,
}

/// The host by which a route reaches a listener without taking calls of publishes: `nobody`, or one below the
/// listener's own; the listener's own where it has just one.
pub(super) fn host(listener: &ir::Listener, nobody: &str) -> String {
    match listener.hostname.as_deref() {
        None => nobody.to_owned(),
        Some(one) => match one.strip_prefix("*.") {
            Some(suffix) => format!("{LABEL}.{suffix}"),
            None => one.to_owned(),
        },
    }
}

/// The hosts of [`host`] of all listeners, each once.
pub(super) fn hosts(gateway: &ir::Gateway, nobody: &str) -> Vec<String> {
    let mut hosts: Vec<_> = gateway.listeners.iter().map(|it| host(it, nobody)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// What is asked: every listener.
pub(super) fn targets(gateway: &ir::Gateway) -> Vec<Target> {
    let of = |it: &ir::Listener| Target { port: it.port, host: host(it, NOBODY) };
    gateway.listeners.iter().map(of).collect()
}

/// The route with this mark.
pub(super) fn route(owner: &Owner<'_>, gateway: &ir::Gateway, mark: u64) -> Value {
    let mut object = owner.of_spec(
        HTTP_ROUTE,
        &owner.name("-probe"),
        json!({
            "parentRefs": parent(&owner.name("")),
            "hostnames": hosts(gateway, NOBODY),
            "rules": [{
                "matches": [{ "path": { "type": "Exact", "value": PATH } }],
                "filters": [{ "type": "RequestRedirect", "requestRedirect": {
                    "hostname": format!("m{mark}.{NOBODY}"),
                    "statusCode": 302,
                }}],
            }],
        }),
    );
    set_label(&mut object, PROBE, "true");
    set_label(&mut object, OPEN, "true");
    object
}

/// The mark in the `location` of an answer.
pub fn mark_of(location: &str) -> Option<u64> {
    let (_, rest) = location.split_once("://m")?;
    let (mark, host) = rest.split_once('.')?;
    host.starts_with(NOBODY).then(|| mark.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(hostname: Option<&str>) -> ir::Listener {
        ir::Listener { name: "l".into(), port: 80, hostname: hostname.map(str::to_owned) }
    }

    #[test]
    fn a_listener_is_reached_by_a_host_that_it_admits() {
        let of = |hostname| host(&listener(hostname), NOBODY);
        assert_eq!(of(None), "probe.invalid");
        assert_eq!(of(Some("*.example.com")), "imp-gateway-probe.example.com");
        assert_eq!(of(Some("api.example.com")), "api.example.com");
    }

    #[test]
    fn a_mark_comes_back_as_it_was_written_and_another_redirect_is_none() {
        assert_eq!(mark_of("http://m17.probe.invalid/.well-known/imp-gateway/probe"), Some(17));
        assert_eq!(mark_of("http://m17.probe.invalid:8080/"), Some(17));
        for other in [
            "https://www.example.com/",
            "http://m17.example.com/",
            "/x",
            "http://mx.probe.invalid/",
        ] {
            assert_eq!(mark_of(other), None, "{other}");
        }
    }
}
