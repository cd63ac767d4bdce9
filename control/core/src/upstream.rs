//! Which upstreams a tenant may use. A gateway that forwards to loopback, to the node, or to a
//! cloud's metadata service would give access to the platform (SSRF), so such addresses are refused
//! unless the deployment's allow-list has them. Names are judged by what is known of them; Envoy
//! judges the address that a name resolves to, by the same table (`imp_grammar::network`).

use imp_grammar::hosts::{self, EndpointFault, EndpointHost};
use imp_grammar::network::{self, Networks};

use crate::check::Fault;
use crate::grammar;

/// What tenants may use although it is not public.
#[derive(Clone, Debug, Default)]
pub struct UpstreamPolicy {
    networks: Networks,
    names: Vec<String>,
    /// Configured as `*.example.internal`, stored without the star.
    domains: Vec<String>,
}

impl UpstreamPolicy {
    /// Parses the allow-list: a CIDR (`10.1.0.0/16`), an address, a DNS name (`localhost`), or all
    /// names below one (`*.corp.internal`).
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Result<Self, Fault> {
        let (mut policy, mut allowed) = (Self::default(), Vec::new());
        for entry in entries.into_iter().map(str::trim).filter(|entry| !entry.is_empty()) {
            if let Some(net) = network::parse(entry) {
                allowed.push(net);
            } else if let Some(domain) = entry.strip_prefix("*.") {
                policy.domains.push(format!(".{}", grammar::hostname(domain)?));
            } else {
                policy.names.push(grammar::hostname(entry)?);
            }
        }
        policy.networks = Networks::allowing(&allowed);
        Ok(policy)
    }

    /// Whether a backend's endpoint may be this host, an address or a DNS name.
    pub fn check(&self, host: &str) -> Result<(), Fault> {
        let name = match hosts::endpoint(host).map_err(invalid)? {
            EndpointHost::Address(address) => {
                return self.networks.judge(address).map_err(|what| {
                    forbidden(format!("{host} is {what}, which this deployment does not allow"))
                });
            }
            EndpointHost::Name(name) => name,
        };
        grammar::hostname(&name).map_err(|_| invalid(EndpointFault::Neither))?;
        match network::leads_inside(&name).filter(|_| !self.allows_name(&name)) {
            None => Ok(()),
            Some(to) => Err(forbidden(format!(
                "{host} leads to {to}, which this deployment does not allow"
            ))),
        }
    }

    fn allows_name(&self, name: &str) -> bool {
        self.names.iter().any(|allowed| allowed == name)
            || self.domains.iter().any(|domain| name.ends_with(domain))
    }
}

fn forbidden(detail: String) -> Fault {
    Fault::new("forbidden_upstream", detail)
}

fn invalid(fault: EndpointFault) -> Fault {
    Fault::new("invalid_host", fault.to_string())
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
            // An earlier version accepted these.
            "localhost.localdomain",
            "localhost6",
            "ip6-localhost",
            "ip6-loopback",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "host.docker.internal",
            "vm",
            "runsc",
            "127.0.0.1.nip.io",
            "7f000001.nip.io",
            "127-0-0-1.sslip.io",
            "localtest.me",
            "::ffff:0:127.0.0.1",
            "2001:0:7f00:1::",
            "168.63.129.16",
            "192.0.2.1",
            "198.51.100.1",
            "203.0.113.1",
            "3fff::1",
            "2001:db8::1",
            "100::1",
            "5f00::1",
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
        for good in ["127.0.0.1", "10.1.2.3", "localhost"] {
            assert_eq!(policy.check(good), Ok(()), "{good}");
        }
        for bad in ["10.1.2.4", "::ffff:127.0.0.1", "ip6-localhost"] {
            assert!(policy.check(bad).is_err(), "{bad}");
        }
        let policy = UpstreamPolicy::parse(["*.corp.internal"]).unwrap();
        assert_eq!(policy.check("pay.corp.internal"), Ok(()));
        assert!(policy.check("pay.other.internal").is_err());
        assert!(policy.check("corp.internal").is_err());
        assert!(UpstreamPolicy::parse(["not a host"]).is_err());
    }
}
