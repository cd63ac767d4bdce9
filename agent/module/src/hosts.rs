//! The hosts of each port: exact names, wildcards and catch-alls.

use std::borrow::Cow;

use dashmap::{DashMap, DashSet};

use crate::host::{self, no_host};

/// The pattern of a port that takes every host.
pub const CATCH_ALL: &str = "*";

/// Which hosts are served, by port. Readers and the writer share it; a change of one host touches
/// nothing else.
#[derive(Debug, Default)]
pub struct Hosts {
    ports: DashMap<u16, DashSet<Box<str>>>,
}

impl Hosts {
    /// Adds a pattern: a canonical host, `*.` and a canonical host, or `*`. Returns whether it is
    /// one.
    pub fn put(&self, port: u16, pattern: &str) -> bool {
        let right = is_pattern(pattern);
        if right {
            self.ports.entry(port).or_default().insert(pattern.into());
        }
        right
    }

    /// Removes a pattern.
    pub fn remove(&self, port: u16, pattern: &str) {
        if let Some(patterns) = self.ports.get(&port) {
            patterns.remove(pattern);
        }
    }

    /// The key of the scope that takes a call: the exact host before the longest wildcard before
    /// the catch-all. A wildcard stands for one or more labels.
    pub fn key<'a>(
        &self,
        port: u16,
        authority: &'a str,
        server_name: ServerName<'_>,
    ) -> Cow<'a, str> {
        let Some(host) = host::canonical(authority) else { return no_host::MALFORMED.into() };
        if !server_name.allows(&host) {
            return no_host::MISDIRECTED.into();
        }
        let Some(patterns) = self.ports.get(&port) else { return no_host::UNKNOWN.into() };
        if patterns.contains(&*host) {
            return host;
        }
        if let Some(wildcard) =
            wildcards(&host).find(|wildcard| patterns.contains(wildcard.as_str()))
        {
            return wildcard.into();
        }
        let found = if patterns.contains(CATCH_ALL) { CATCH_ALL } else { no_host::UNKNOWN };
        found.into()
    }
}

/// The wildcards that cover a host, the longest first.
fn wildcards(host: &str) -> impl Iterator<Item = String> + '_ {
    let dots = host.match_indices('.');
    dots.filter_map(move |(dot, _)| Some(format!("*{}", host.get(dot..)?)))
}

fn is_pattern(pattern: &str) -> bool {
    let host = pattern.strip_prefix("*.").unwrap_or(pattern);
    pattern == CATCH_ALL || host::canonical(host).is_some_and(|canonical| canonical == host)
}

/// What TLS says of the host.
#[derive(Clone, Copy, Debug)]
pub enum ServerName<'a> {
    /// The listener has no TLS.
    NoTls,
    /// The name in the handshake; `None` if the caller sent none.
    Tls(Option<&'a str>),
}

impl ServerName<'_> {
    fn allows(self, host: &str) -> bool {
        match self {
            Self::NoTls => true,
            Self::Tls(name) => name.and_then(host::canonical).is_some_and(|name| name == host),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        let hosts = Hosts::default();
        for (port, pattern) in [
            (80, "a.example.com"),
            (80, "*.example.com"),
            (80, "*.deep.example.com"),
            (81, "b.test"),
            (81, "*"),
        ] {
            assert!(hosts.put(port, pattern), "{pattern}");
        }
        hosts
    }

    fn key(port: u16, host: &str) -> String {
        hosts().key(port, host, ServerName::NoTls).into_owned()
    }

    #[test]
    fn the_exact_host_comes_before_the_longest_wildcard_before_the_catch_all() {
        for (host, expected) in [
            ("A.Example.COM:80", "a.example.com"),
            ("b.example.com", "*.example.com"),
            ("B.c.EXAMPLE.com.", "*.example.com"),
            ("x.deep.example.com", "*.deep.example.com"),
            ("y.x.deep.example.com", "*.deep.example.com"),
            ("deep.example.com", "*.example.com"),
            ("example.com", no_host::UNKNOWN),
            ("com", no_host::UNKNOWN),
            ("[::1]", no_host::UNKNOWN),
            ("*.example.com", no_host::MALFORMED),
            ("a..example.com", no_host::MALFORMED),
            ("", no_host::MALFORMED),
        ] {
            assert_eq!(key(80, host), expected, "{host}");
        }
        assert_eq!(key(81, "b.test"), "b.test");
        assert_eq!(key(81, "anything.else"), CATCH_ALL);
        assert_eq!(key(81, "any thing"), no_host::MALFORMED);
        assert_eq!(key(82, "a.example.com"), no_host::UNKNOWN);
    }

    #[test]
    fn tls_and_host_must_agree() {
        let hosts = hosts();
        let key = |name| hosts.key(80, "A.example.com:8443", ServerName::Tls(name));
        assert_eq!(key(Some("a.example.com")), "a.example.com");
        assert_eq!(key(Some("A.EXAMPLE.com")), "a.example.com");
        for name in [Some("b.example.com"), Some(""), Some("*.example.com"), None] {
            assert_eq!(key(name), no_host::MISDIRECTED, "{name:?}");
        }
    }

    /// The grammar of the API and the agent on the one side, the module on the other.
    #[test]
    #[cfg_attr(miri, ignore = "thousands of hosts, and no unsafe")]
    fn what_the_api_accepts_is_a_pattern_here_and_finds_the_hosts_that_it_means() {
        use imp_grammar::hosts::{below_wildcard, canonical_pattern, is_wildcard};
        let parts = ["*", "*.", "A", "b-1", "xn--a", ".", "..", "-", "com", ":80", "é", "_x", "!"];
        let mut accepted = 0;
        for first in parts {
            for second in parts {
                for third in parts {
                    let Ok(pattern) = canonical_pattern(&format!("{first}{second}{third}")) else {
                        continue;
                    };
                    accepted += 1;
                    let hosts = Hosts::default();
                    assert!(hosts.put(80, &pattern), "{pattern}");
                    let host = match below_wildcard(&pattern) {
                        Some(name) => format!("x.y.{name}"),
                        None if is_wildcard(&pattern) => "x.example".to_owned(),
                        None => pattern.clone(),
                    };
                    let key = |host: &str| hosts.key(80, host, ServerName::NoTls).into_owned();
                    assert_eq!(key(&host), pattern, "{host}");
                    assert_eq!(key(&format!("{}.:8080", host.to_uppercase())), pattern);
                    if let Some(name) = below_wildcard(&pattern) {
                        assert_eq!(key(name), no_host::UNKNOWN, "a wildcard is not its own name");
                    }
                    hosts.remove(80, &pattern);
                    assert_eq!(key(&host), no_host::UNKNOWN);
                }
            }
        }
        assert!(accepted > 100, "{accepted} prove little");
    }

    #[test]
    fn a_removed_host_is_unknown_and_a_pattern_is_canonical() {
        let hosts = hosts();
        hosts.remove(81, "b.test");
        hosts.remove(81, "*");
        assert_eq!(hosts.key(81, "b.test", ServerName::NoTls), no_host::UNKNOWN);
        for pattern in ["A.example.com", "a.example.com.", "*.", "**", "*.*.a", "a:80", "!404"] {
            assert!(!hosts.put(80, pattern), "{pattern}");
        }
    }
}
