//! The networks, each with a description.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

/// Takes the first three groups, enough for most networks.
const fn v6(a: u16, b: u16, c: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), length)
}

/// IPv4 addresses that are not public (RFC 6890 and its registry), and Azure's wire server, which
/// looks public.
pub const NOT_PUBLIC_V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 0, 8), "an address of this host"),
    (v4(10, 0, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 0, 10), "a shared address"),
    (v4(127, 0, 0, 0, 8), "a loopback address"),
    (v4(168, 63, 129, 16, 32), "a metadata address"),
    (v4(169, 254, 0, 0, 16), "a link-local address"),
    (v4(172, 16, 0, 0, 12), "a private address"),
    (v4(192, 0, 0, 0, 24), "an address for protocols"),
    (v4(192, 0, 2, 0, 24), "an address for documentation"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay"),
    (v4(192, 168, 0, 0, 16), "a private address"),
    (v4(198, 18, 0, 0, 15), "an address for benchmarks"),
    (v4(198, 51, 100, 0, 24), "an address for documentation"),
    (v4(203, 0, 113, 0, 24), "an address for documentation"),
    (v4(224, 0, 0, 0, 4), "a multicast address"),
    (v4(240, 0, 0, 0, 4), "a reserved address"),
];

/// `::ffff:a.b.c.d`: many kernels connect it to the IPv4 address; Envoy does not.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
/// `64:ff9b::a.b.c.d`: a translator in the network connects it to the IPv4 address.
pub(super) const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);
const TRANSLATED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96);
const LOCAL_NAT64: Ipv6Net = v6(0x64, 0xff9b, 1, 48);
const TEREDO: Ipv6Net = v6(0x2001, 0, 0, 32);
const SIX_TO_FOUR: Ipv6Net = v6(0x2002, 0, 0, 16);
const COMPATIBLE: Ipv6Net = v6(0, 0, 0, 96);

/// `::` and `::1`, which lie in the network of IPv4-compatible addresses.
pub(super) const UNSPECIFIED_AND_LOOPBACK: Ipv6Net = v6(0, 0, 0, 127);

/// They carry IPv4 addresses that our rules cannot inspect, or are no longer routed; so no entry
/// allows them.
pub(super) const CARRIERS: [Ipv6Net; 6] =
    [COMPATIBLE, MAPPED, TRANSLATED, LOCAL_NAT64, TEREDO, SIX_TO_FOUR];

/// IPv6 addresses that are not public: everything outside 2000::/3, and some inside it.
pub const NOT_PUBLIC_V6: [(Ipv6Net, &str); 25] = [
    (v6(0, 0, 0, 128), "an unspecified address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "a loopback address"),
    (COMPATIBLE, "an IPv4-compatible address"),
    (MAPPED, "an IPv4 address in IPv6 writing"),
    (TRANSLATED, "an IPv4-translated address"),
    (NAT64, "a NAT64 address"),
    (LOCAL_NAT64, "a NAT64 address"),
    (v6(0x100, 0, 0, 64), "a discard address"),
    (v6(0x100, 0, 0, 48), "a reserved address"),
    (TEREDO, "a Teredo address"),
    (v6(0x2001, 2, 0, 48), "an address for benchmarks"),
    (v6(0x2001, 0x10, 0, 28), "a cryptographic identifier"),
    (v6(0x2001, 0x20, 0, 28), "a cryptographic identifier"),
    (v6(0x2001, 0, 0, 23), "an address for protocols"),
    (v6(0x2001, 0xdb8, 0, 32), "an address for documentation"),
    (SIX_TO_FOUR, "a 6to4 address"),
    (v6(0x3fff, 0, 0, 20), "an address for documentation"),
    (v6(0x5f00, 0, 0, 16), "a segment identifier"),
    (v6(0xfc00, 0, 0, 7), "a private address"),
    (v6(0xfe80, 0, 0, 10), "a link-local address"),
    (v6(0xfec0, 0, 0, 10), "a site-local address"),
    (v6(0xff00, 0, 0, 8), "a multicast address"),
    // Never assigned.
    (v6(0, 0, 0, 3), "a reserved address"),
    (v6(0x4000, 0, 0, 2), "a reserved address"),
    (v6(0x8000, 0, 0, 1), "a reserved address"),
];

/// Where clouds provide credentials and settings to internal callers.
pub const METADATA: [IpAddr; 11] = [
    // AWS, Azure, Google, Oracle, DigitalOcean and others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS: credentials of containers, twice.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Tencent, Scaleway, Alibaba, Azure's wire server, Oracle's older one.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // AWS, AWS for containers, Google, Scaleway.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];
