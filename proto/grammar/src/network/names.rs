//! Names that are known to resolve to internal addresses. They are refused early, for a clear
//! error; what enforces the rule is the check of the resolved address.

/// Each of these names, with everything below it.
const INSIDE: [(&str, &str); 27] = [
    ("localhost", "the gateway's own host"),
    ("localdomain", "the gateway's own host"),
    ("localhost4", "the gateway's own host"),
    ("localhost6", "the gateway's own host"),
    ("localdomain4", "the gateway's own host"),
    ("localdomain6", "the gateway's own host"),
    ("ip6-localhost", "the gateway's own host"),
    ("ip6-loopback", "the gateway's own host"),
    // Top-level domains for private use: metadata.google.internal, host.docker.internal.
    ("internal", "a private network"),
    ("home.arpa", "a private network"),
    ("metadata.goog", "a metadata service"),
    ("metadata.tencentyun.com", "a metadata service"),
    ("metadata.packet.net", "a metadata service"),
    ("metadata.platformequinix.com", "a metadata service"),
    // Public services that resolve a name to the address in it, or to loopback.
    ("nip.io", "whatever address is written in it"),
    ("sslip.io", "whatever address is written in it"),
    ("xip.io", "whatever address is written in it"),
    ("traefik.me", "whatever address is written in it"),
    ("1u.ms", "whatever address is written in it"),
    ("rbndr.us", "whatever address is written in it"),
    ("localtest.me", "the gateway's own host"),
    ("local.gd", "the gateway's own host"),
    ("lvh.me", "the gateway's own host"),
    ("vcap.me", "the gateway's own host"),
    ("lacolhost.com", "the gateway's own host"),
    ("localho.st", "the gateway's own host"),
    ("fuf.me", "the gateway's own host"),
];

/// Describes where a forbidden name leads; `None` for a name that must be judged by its address.
/// The name must be in lower case, without a trailing dot.
pub fn leads_inside(name: &str) -> Option<&'static str> {
    let known = |(inside, _): &&(&str, &str)| is_within(name, inside);
    if let Some((_, what)) = INSIDE.iter().find(known) {
        return Some(what);
    }
    let mut labels = name.split('.');
    match (labels.next(), labels.next()) {
        (Some("kubernetes"), Some("default")) | (Some(_), Some("kube-system")) => {
            Some("the cluster that the gateway runs in")
        }
        (Some(_), None) => Some("a host of the network that the gateway runs in (it has no dot)"),
        _ => None,
    }
}

fn is_within(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
