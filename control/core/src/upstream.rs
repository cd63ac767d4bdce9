//! Which upstream addresses a tenant may name. A gateway that forwards to loopback, to the node, or
//! to a cloud's metadata service is a way into the platform (SSRF), so these are refused unless the
//! deployment's allow-list names them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::check::Fault;
use crate::grammar;

/// What the deployment lets tenants reach although it is not public.
#[derive(Clone, Debug, Default)]
pub struct UpstreamPolicy {
    allowed: Vec<IpNet>,
    allowed_names: Vec<String>,
}

impl UpstreamPolicy {
    /// Each entry is a CIDR (`10.1.0.0/16`), an address, or a DNS name (`localhost`).
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let mut policy = Self::default();
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            if let Ok(net) = entry.parse::<IpNet>() {
                policy.allowed.push(net);
            } else if let Ok(address) = entry.parse::<IpAddr>() {
                policy.allowed.push(address.into());
            } else {
                policy.allowed_names.push(grammar::hostname(entry)?);
            }
        }
        Ok(policy)
    }

    /// Whether a backend's endpoint may be this host: an address or a DNS name.
    pub fn check(&self, host: &str) -> Result<(), Fault> {
        if let Some(address) = literal(host) {
            return self.check_address(host, address);
        }
        let name = grammar::hostname(host)
            .map_err(|_| Fault::new("invalid_host", "an IP address or a DNS name"))?;
        if looks_numeric(&name) {
            return Err(Fault::new("invalid_host", "write addresses in dotted decimal or as IPv6"));
        }
        let local =
            LOCAL_NAMES.iter().any(|local| name == *local || name.ends_with(&format!(".{local}")));
        if local && !self.allowed_names.contains(&name) {
            return Err(forbidden(host));
        }
        Ok(())
    }

    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Fault> {
        let seen = unmapped(address);
        let allowed = self.allowed.iter().any(|net| net.contains(&address) || net.contains(&seen));
        if allowed || is_public(seen) { Ok(()) } else { Err(forbidden(host)) }
    }
}

const LOCAL_NAMES: [&str; 4] =
    ["localhost", "metadata.google.internal", "metadata", "instance-data"];

fn forbidden(host: &str) -> Fault {
    Fault::new(
        "forbidden_upstream",
        format!(
            "{host} is a loopback, link-local, private or metadata address that this deployment does not allow"
        ),
    )
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// `2130706433`, `0x7f.1`, `127.1`: resolvers read these as addresses.
fn looks_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The IPv4 address inside a v4-mapped, NAT64 or 6to4 address; otherwise the address itself.
fn unmapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let v4 =
        |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match s {
        [0, 0, 0, 0, 0, 0xffff | 0, high, low] if high != 0 || low > 1 => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598, and a cloud's metadata service
    let special =
        a == 0 || a >= 240 || (a == 192 && b == 0 && c == 0) || (a == 198 && (b & 0xfe) == 18);
    !(v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || shared
        || special)
}

fn is_public_v6(v6: Ipv6Addr) -> bool {
    let first = v6.segments()[0];
    let unique_local = (first & 0xfe00) == 0xfc00; // holds fd00:ec2::254
    let link_local = (first & 0xffc0) == 0xfe80;
    let site_local = (first & 0xffc0) == 0xfec0;
    !(v6.is_loopback()
        || v6.is_unspecified()
        || v6.is_multicast()
        || unique_local
        || link_local
        || site_local
        || first == 0x64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_inside_are_refused_in_every_spelling() {
        let policy = UpstreamPolicy::default();
        for bad in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.100.100.200",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.1",
            "::1",
            "[::1]",
            "::",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "localhost",
            "a.localhost",
            "metadata.google.internal",
            "LOCALHOST.",
        ] {
            assert_eq!(policy.check(bad).map_err(|f| f.code), Err("forbidden_upstream"), "{bad}");
        }
        for bad in ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "", "a b", "a/b", "a:80"] {
            assert_eq!(policy.check(bad).map_err(|f| f.code), Err("invalid_host"), "{bad}");
        }
    }

    #[test]
    fn public_addresses_and_cluster_names_are_accepted() {
        let policy = UpstreamPolicy::default();
        for good in ["8.8.8.8", "2606:4700::1111", "payment-svc.default.svc", "api.example.com"] {
            assert_eq!(policy.check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn the_allow_list_opens_what_it_names_and_nothing_else() {
        let policy = UpstreamPolicy::parse(["127.0.0.0/8", "10.1.2.3", "localhost"]).unwrap();
        for good in ["127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "localhost"] {
            assert_eq!(policy.check(good), Ok(()), "{good}");
        }
        assert!(policy.check("10.1.2.4").is_err());
        assert!(UpstreamPolicy::parse(["not a host"]).is_err());
    }
}
