//! Which hostnames a tenant can have at all, which need an operator's grant, and which lie below
//! which. All names here are canonical ([`crate::grammar::hostname`]).

pub use imp_grammar::caps::KEPT_OUT_HOSTS_PER_PUBLISH;
use imp_grammar::hosts;
pub use imp_grammar::hosts::{CATCH_ALL, below_wildcard, is_wildcard};

use crate::check::Fault;
use crate::grammar;

/// Why a tenant cannot claim a name by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// An address, a top-level name, or a suffix under which registries sell names. Nobody can have
    /// it.
    Always,
    /// Has another meaning on each machine or network (RFC 6761, RFC 6762, RFC 8375, Kubernetes).
    /// An operator may grant it to one tenant, or share it.
    Local,
}

/// Names that networks and machines resolve by themselves, with everything below them.
const LOCAL: [&str; 15] = [
    "alt",
    "arpa",
    "corp",
    "home",
    "internal",
    "intranet",
    "invalid",
    "kubernetes",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
    "svc",
];

/// Two-label suffixes under which registries sell names, by top-level name. Nobody can prove one of
/// these; the table only keeps operators from granting one by mistake.
const SUFFIXES: [(&str, &str); 25] = [
    ("ar", "com gob net org"),
    ("at", "ac co gv or"),
    ("au", "asn com edu gov id net org"),
    ("br", "com edu gov net org"),
    ("cn", "ac com edu gov net org"),
    ("es", "com edu gob nom org"),
    ("hk", "com edu gov idv net org"),
    ("id", "ac co go net or sch web"),
    ("il", "ac co gov net org"),
    ("in", "ac co firm gen gov ind net org"),
    ("jp", "ac ad co ed go gr lg ne or"),
    ("kr", "ac co go mil ne or pe re"),
    ("mx", "com edu gob net org"),
    ("my", "com edu gov net org"),
    ("nz", "ac co gen govt net org school"),
    ("ph", "com edu gov net org"),
    ("pl", "com edu gov net org"),
    ("sg", "com edu gov net org"),
    ("th", "ac co go in net or"),
    ("tr", "com edu gov net org"),
    ("tw", "com edu gov idv net org"),
    ("ua", "com edu gov net org"),
    ("uk", "ac co gov ltd me net nhs org plc police sch"),
    ("vn", "com edu gov net org"),
    ("za", "ac co gov net org web"),
];

/// Whether the name is reserved, and how strictly.
pub fn reserved(name: &str) -> Option<Reserved> {
    if hosts::ends_in_a_number(name) {
        return Some(Reserved::Always);
    }
    if LOCAL.iter().any(|local| is_at_or_below(name, local))
        || is_at_or_below(name, "kubernetes.default")
    {
        return Some(Reserved::Local);
    }
    match name.split_once('.') {
        None => Some(Reserved::Always),
        Some((second, top)) if is_suffix(second, top) => Some(Reserved::Always),
        Some(_) => None,
    }
}

fn is_suffix(second: &str, top: &str) -> bool {
    SUFFIXES.iter().any(|(it, seconds)| *it == top && seconds.split(' ').any(|it| it == second))
}

/// The fault for a reserved name.
pub fn reserved_fault() -> Fault {
    let detail =
        "an address, a top-level name or a name of the local network, which nobody can prove";
    Fault::new("reserved_hostname", detail)
}

/// The name, then each parent up to the top-level one.
pub fn lineage(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, above)| above))
}

/// Whether `name` is `domain` or below it, by whole labels.
pub fn is_at_or_below(name: &str, domain: &str) -> bool {
    name == domain || is_below(name, domain)
}

fn is_below(name: &str, domain: &str) -> bool {
    name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
}

/// Domains below which every tenant may claim hostnames, first come, first served. The domains
/// themselves belong to nobody.
#[derive(Clone, Debug, Default)]
pub struct SharedDomains(Vec<String>);

impl SharedDomains {
    /// Parses DNS names. Local ones are allowed, because the operator configures them.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let entries = entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(grammar::hostname).collect::<Result<_, _>>().map(Self)
    }

    /// The longest shared domain that `name` lies below.
    pub fn above(&self, name: &str) -> Option<&str> {
        let above = self.0.iter().map(String::as_str).filter(|domain| is_below(name, domain));
        above.max_by_key(|domain| domain.len())
    }

    /// Whether tenants share something that a wildcard of `name` would take.
    pub fn reach_below(&self, name: &str) -> bool {
        self.0.iter().any(|domain| is_at_or_below(domain, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_can_prove_is_reserved() {
        for name in ["127.0.0.1", "127.1", "0x7f.0x1", "com", "co.uk", "com.au", "example", "vm"] {
            assert_eq!(reserved(name), Some(Reserved::Always), "{name}");
        }
        for name in [
            "localhost",
            "a.localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "x.svc",
            "x.svc.cluster.local",
            "metadata.google.internal",
            "printer.home.arpa",
            "x.localdomain",
        ] {
            assert_eq!(reserved(name), Some(Reserved::Local), "{name}");
        }
        for name in ["example.com", "a.co.uk", "web.de", "d.example", "mylocal.dev", "svc.dev"] {
            assert_eq!(reserved(name), None, "{name}");
        }
    }

    #[test]
    fn below_means_whole_labels() {
        assert!(is_at_or_below("a.example.com", "example.com"));
        assert!(is_at_or_below("example.com", "example.com"));
        assert!(!is_at_or_below("badexample.com", "example.com"));
        assert!(!is_at_or_below(".example.com", "example.com"));
        assert_eq!(lineage("a.b.c").collect::<Vec<_>>(), ["a.b.c", "b.c", "c"]);
    }

    #[test]
    fn a_shared_domain_shares_what_is_below_it_and_not_itself() {
        let shared = SharedDomains::parse(["Apps.Example.com", " x.apps.example.com", ""]).unwrap();
        assert_eq!(shared.above("a.apps.example.com"), Some("apps.example.com"));
        assert_eq!(shared.above("a.x.apps.example.com"), Some("x.apps.example.com"));
        assert_eq!(shared.above("apps.example.com"), None);
        assert_eq!(shared.above("badapps.example.com"), None);
        for name in ["apps.example.com", "example.com", "com", "x.apps.example.com"] {
            assert!(shared.reach_below(name), "{name}");
        }
        for name in ["a.apps.example.com", "ample.com", "y.x.apps.example.com"] {
            assert!(!shared.reach_below(name), "{name}");
        }
        assert!(SharedDomains::parse(["*.example.com"]).is_err());
    }
}
