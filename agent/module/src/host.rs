//! The canonical spelling of a host, and the key of its scope.
//!
//! A scope is found by a header that is compared byte by byte, so each spelling of a host must
//! become one: without port and final dot, in lower case.

use std::borrow::Cow;

/// The longest name of a host (RFC 1035).
const LONGEST: usize = 253;

/// The longest label.
const LABEL: usize = 63;

/// Why a host has no scope. The values are keys that no host has.
pub mod no_host {
    /// The host is not written as hosts are.
    pub const MALFORMED: &str = "!400";
    /// Nobody serves it here.
    pub const UNKNOWN: &str = "!404";
    /// Nothing is known of any host yet.
    pub const NOT_LOADED: &str = "!503";
    /// TLS was asked for another host.
    pub const MISDIRECTED: &str = "!421";
}

/// The canonical spelling of `:authority`: `a.example.com` for `A.Example.COM.:8443`. `None` if it
/// is no host: user information, empty labels, characters that no hostname has. A literal address
/// stays one; IPv6 keeps its brackets.
pub fn canonical(authority: &str) -> Option<Cow<'_, str>> {
    let host = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, rest) = literal.split_once(']')?;
            is_port(rest).then_some(())?;
            let address: std::net::Ipv6Addr = address.parse().ok()?;
            return Some(format!("[{address}]").into());
        }
        None => match authority.find(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(colon);
                is_port(port).then_some(host)?
            }
            None => authority,
        },
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let right = (1..=LONGEST).contains(&host.len()) && host.split('.').all(is_label);
    let is_lower = || !host.bytes().any(|byte| byte.is_ascii_uppercase());
    right.then(|| if is_lower() { host.into() } else { host.to_ascii_lowercase().into() })
}

/// The same authority without the final dot of its host; `None` if there is none.
pub fn without_dot(authority: &str) -> Option<String> {
    let at = authority.find(':').unwrap_or(authority.len());
    let (host, port) = authority.split_at_checked(at)?;
    let host = host.strip_suffix('.')?;
    Some(format!("{host}{port}"))
}

/// Nothing, or a colon and a port.
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
        None => text.is_empty(),
    }
}

/// Letters, digits, `-` and `_`, which some names of services have.
fn is_label(label: &str) -> bool {
    let fits = (1..=LABEL).contains(&label.len());
    fits && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_host_is_one() {
        for spelling in [
            "a.example.com",
            "A.Example.COM",
            "a.example.com.",
            "a.example.com:8443",
            "A.EXAMPLE.com.:8443",
            "a.example.com:0",
        ] {
            assert_eq!(canonical(spelling).as_deref(), Some("a.example.com"), "{spelling}");
        }
        assert_eq!(canonical("[2001:DB8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(canonical("127.0.0.1:80").as_deref(), Some("127.0.0.1"));
        assert_eq!(canonical("_grpc.a-b").as_deref(), Some("_grpc.a-b"));
    }

    #[test]
    fn a_final_dot_goes_and_nothing_else() {
        for (authority, without) in [
            ("a.example.com.", Some("a.example.com")),
            ("A.EXAMPLE.com.:8443", Some("A.EXAMPLE.com:8443")),
            ("a.example.com", None),
            ("a.example.com:80.", None),
            ("[::1]", None),
            ("", None),
        ] {
            assert_eq!(without_dot(authority).as_deref(), without, "{authority}");
        }
    }

    #[test]
    fn what_is_no_host_has_no_spelling() {
        let long = "a".repeat(64);
        let longer = vec!["a"; 130].join(".");
        for host in [
            "",
            ".",
            "..",
            "a..example.com",
            ".a",
            "a.example.com..",
            "a.example.com:",
            "a.example.com:-1",
            "a.example.com:abc",
            "a.example.com:99999",
            "a.example.com:80:80",
            "user@a.example.com",
            "a.example.com@evil",
            "*.example.com",
            "a.example.com,b.example.com",
            "a example.com",
            "ä.example.com",
            "a.example.com/x",
            "[::1",
            "[::1]x",
            "[nonsense]",
            "::1",
            "!404",
            &long,
            &longer,
        ] {
            assert_eq!(canonical(host), None, "{host}");
        }
    }
}
