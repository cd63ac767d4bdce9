//! Networks that a tenant's upstream may not be in, unless the deployment allows them.
//!
//! The control plane refuses addresses and names that it can judge at once. A name may resolve to
//! anything by the time of a call, so the agent has Envoy check the address of each connection by
//! the same [`Rule`]s.

mod names;
mod table;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

pub use names::leads_inside;
use table::{CARRIERS, NAT64, UNSPECIFIED_AND_LOOPBACK};
pub use table::{METADATA, NOT_PUBLIC_V4, NOT_PUBLIC_V6};

/// Refuses an address that is in `deny` and not in `unless`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub deny: Vec<IpNet>,
    /// Exceptions from `deny`.
    pub unless: Vec<IpNet>,
}

impl Rule {
    fn refuses(&self, address: IpAddr) -> bool {
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        within(&self.deny) && !within(&self.unless)
    }
}

/// The addresses that tenants may use: all public ones, and those that the deployment allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Networks {
    rules: Vec<Rule>,
}

impl Default for Networks {
    fn default() -> Self {
        Self::allowing(&[])
    }
}

impl Networks {
    /// Allows the public networks and these. A metadata service is allowed only by an entry for its
    /// exact address, and NAT64 only for IPv4 addresses that are allowed themselves.
    pub fn allowing(allowed: &[IpNet]) -> Self {
        let allowed: Vec<IpNet> = allowed.iter().map(|net| unmapped(net.trunc())).collect();
        let v4: Vec<Ipv4Net> = allowed.iter().filter_map(only_v4).collect();
        let v6: Vec<IpNet> = allowed.iter().filter(|net| only_v4(net).is_none()).copied().collect();
        let mut rules = vec![
            Rule { deny: nets(CARRIERS), unless: vec![UNSPECIFIED_AND_LOOPBACK.into()] },
            Rule {
                deny: NOT_PUBLIC_V4.iter().map(|(net, _)| (*net).into()).collect(),
                unless: v4.iter().map(|net| (*net).into()).collect(),
            },
        ];
        rules.extend(metadata(&allowed));
        let nat64 = IpNet::from(NAT64);
        if v6.iter().any(|net| net.contains(&nat64) || nat64.contains(net)) {
            let inside = NOT_PUBLIC_V4.iter().map(|(net, _)| carried(NAT64, *net));
            let open = v4.iter().map(|net| carried(NAT64, *net));
            rules.push(Rule { deny: inside.collect(), unless: open.collect() });
        }
        let deny = IpNet::aggregate(&NOT_PUBLIC_V6.map(|(net, _)| net.into()).to_vec());
        rules.push(Rule { deny, unless: v6 });
        Self { rules }
    }

    /// The rules that refuse addresses, for enforcement.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether tenants may use this address; if not, a description of it.
    pub fn judge(&self, address: IpAddr) -> Result<(), &'static str> {
        let refused = self.rules.iter().any(|rule| rule.refuses(address));
        if refused { Err(kind_of(address)) } else { Ok(()) }
    }
}

/// Parses `10.0.0.0/8`, `10.1.2.3` or `[::1]`; `None` if it is neither a network nor an address. A
/// v4-mapped entry is converted to IPv4, because no connection has such an address.
pub fn parse(text: &str) -> Option<IpNet> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    text.parse().ok().or_else(|| bare.parse::<IpAddr>().ok().map(IpNet::from)).map(unmapped)
}

/// A description of an address that is not public.
fn kind_of(address: IpAddr) -> &'static str {
    if nets(METADATA).iter().any(|net| net.contains(&address)) {
        return "a metadata address";
    }
    let v4 = NOT_PUBLIC_V4.iter().map(|(net, kind)| (IpNet::from(*net), *kind));
    let v6 = NOT_PUBLIC_V6.iter().map(|(net, kind)| (IpNet::from(*net), *kind));
    let found = v4.chain(v6).find(|(net, _)| net.contains(&address));
    found.map_or("an address that is not allowed", |(_, kind)| kind)
}

/// Metadata services answer everyone who reaches them, so a wider entry does not allow them.
fn metadata(allowed: &[IpNet]) -> Option<Rule> {
    let spellings = |host: &IpAddr| match host {
        IpAddr::V4(v4) => vec![IpNet::from(*host), carried(NAT64, (*v4).into())],
        IpAddr::V6(_) => vec![IpNet::from(*host)],
    };
    let opened = |host: &IpNet| allowed.iter().any(|net| net.contains(host) && net != host);
    let own = METADATA.iter().filter(|host| !allowed.contains(&IpNet::from(**host)));
    let deny: Vec<IpNet> = own.flat_map(spellings).filter(opened).collect();
    (!deny.is_empty()).then_some(Rule { deny, unless: vec![] })
}

fn nets<T: Copy + Into<IpNet>, const N: usize>(of: [T; N]) -> Vec<IpNet> {
    of.map(Into::into).to_vec()
}

fn only_v4(net: &IpNet) -> Option<Ipv4Net> {
    match net {
        IpNet::V4(net) => Some(*net),
        IpNet::V6(_) => None,
    }
}

/// An IPv4 network within the 96-bit prefix of `carrier`.
fn carried(carrier: Ipv6Net, net: Ipv4Net) -> IpNet {
    let bits = carrier.addr().to_bits() | u128::from(net.addr().to_bits());
    let length = net.prefix_len().saturating_add(96);
    Ipv6Net::new(bits.into(), length).map_or(IpNet::from(carrier), IpNet::from)
}

/// Converts a v4-mapped entry to its IPv4 network.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let inner = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    let length = v6.prefix_len().saturating_sub(96);
    let shorter = |inner: Ipv4Addr| Ipv4Net::new(inner, length).ok().map(IpNet::from);
    inner.and_then(shorter).unwrap_or(net)
}

#[cfg(test)]
mod tests;
