//! The addresses that calls may be sent to.
//!
//! The filter is in the router and so covers every cluster: it checks the host that the load
//! balancer chose for this call, before Envoy connects. Whatever a name resolved to meanwhile, no
//! connection is made to an address that is not allowed. In a cluster the same filter costs 27 KB
//! each.
//!
//! It checks calls. Connections without a call (preconnecting, mirrored requests) would bypass it,
//! so clusters and routes use none of these; health checks connect only to addresses that were
//! checked before (`health.rs`). A cluster with `http_filters` of its own would leave the filter
//! out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::rbac::v3 as rules;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac;
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;
use envoy_types::pb::envoy::extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig;
use envoy_types::pb::envoy::extensions::rbac::matchers::upstream_ip_port::v3::UpstreamIpPortMatcher;
use envoy_types::pb::envoy::r#type::v3::Int64Range;
use imp_grammar::network::{self, NOT_PUBLIC_V4, NOT_PUBLIC_V6, Networks};
use ipnet::IpNet;

use super::canon::{extension, socket_address, uint};
use super::filter;
use super::names::FORBIDDEN;

/// The addresses that calls may be sent to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstreams {
    pub networks: Networks,
    /// Addresses that stay closed even in an allowed network: the platform's own ports.
    pub closed: Vec<Closed>,
    /// The DNS servers for backends' names; if empty, those of Envoy's host.
    pub resolvers: Vec<SocketAddr>,
    /// The file of trusted authorities on Envoy's host; when absent, the usual location.
    pub authorities: Option<String>,
}

impl Upstreams {
    /// Whether calls may be sent to this address.
    pub(crate) fn admits(&self, address: IpAddr, port: u16) -> bool {
        let closed = |it: &Closed| {
            it.port.is_none_or(|own| own == port)
                && it.nets.iter().any(|net| net.contains(&address))
        };
        self.networks.judge(address).is_ok() && !self.closed.iter().any(closed)
    }
}

/// Addresses that no call may reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    nets: Vec<IpNet>,
    /// `None` for every port.
    port: Option<u16>,
}

impl Closed {
    /// A whole network.
    pub fn network(net: IpNet) -> Self {
        Self { nets: vec![net], port: None }
    }

    /// All addresses that reach a socket bound to this address.
    pub fn socket(bound: SocketAddr) -> Self {
        let ip = bound.ip();
        let also = match ip {
            // The kernel connects the unspecified address to loopback.
            IpAddr::V4(v4) if v4.is_loopback() => Some(Ipv4Addr::UNSPECIFIED.into()),
            IpAddr::V6(v6) if v6.is_loopback() => Some(Ipv6Addr::UNSPECIFIED.into()),
            _ => None,
        };
        let nets = if ip.is_unspecified() {
            let v6 = NOT_PUBLIC_V6.map(|(net, _)| IpNet::from(net)).to_vec();
            let v4 = NOT_PUBLIC_V4.iter().map(|(net, _)| IpNet::from(*net));
            v4.chain(IpNet::aggregate(&v6)).collect()
        } else {
            [Some(ip), also].into_iter().flatten().map(IpNet::from).collect()
        };
        Self { nets, port: Some(bound.port()) }
    }
}

/// The filters between the router and the chosen host.
pub(super) fn filters(upstreams: &Upstreams) -> Vec<HttpFilter> {
    let closed = upstreams.closed.iter().map(closed);
    let networks = upstreams.networks.rules().iter().map(refused);
    let policy = rules::Policy {
        permissions: closed.chain(networks).collect(),
        principals: vec![rules::Principal {
            identifier: Some(rules::principal::Identifier::Any(true)),
        }],
        ..Default::default()
    };
    let judge = Rbac {
        rules: Some(rules::Rbac {
            action: rules::rbac::Action::Deny.into(),
            policies: HashMap::from([(FORBIDDEN.to_owned(), policy)]),
            ..Default::default()
        }),
        rules_stat_prefix: "upstream".to_owned(),
        ..Default::default()
    };
    vec![filter::UPSTREAM_RBAC.fixed(&judge), filter::UPSTREAM_CODEC.fixed(&UpstreamCodec {})]
}

/// The DNS resolver, if servers are configured. Tenants' names must not use the search domains of
/// the gateway's host.
pub(super) fn resolver(upstreams: &Upstreams) -> Option<core::TypedExtensionConfig> {
    if upstreams.resolvers.is_empty() {
        return None;
    }
    let address = |at: &SocketAddr| socket_address(at.ip().to_string(), at.port());
    let config = CaresDnsResolverConfig {
        resolvers: upstreams.resolvers.iter().map(address).collect(),
        dns_resolver_options: Some(core::DnsResolverOptions {
            no_default_search_domain: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    Some(extension("envoy.network.dns_resolver.cares", &config))
}

fn closed(closed: &Closed) -> rules::Permission {
    let nets = any_of(closed.nets.iter().map(within));
    match closed.port {
        None => nets,
        Some(port) => all_of(vec![nets, at_port(port)]),
    }
}

fn refused(rule: &network::Rule) -> rules::Permission {
    let deny = any_of(rule.deny.iter().map(within));
    if rule.unless.is_empty() {
        return deny;
    }
    let unless = any_of(rule.unless.iter().map(within));
    all_of(vec![deny, permission(rules::permission::Rule::NotRule(Box::new(unless)))])
}

fn within(net: &IpNet) -> rules::Permission {
    matcher(UpstreamIpPortMatcher {
        upstream_ip: Some(core::CidrRange {
            address_prefix: net.network().to_string(),
            prefix_len: uint(net.prefix_len().into()),
        }),
        ..Default::default()
    })
}

fn at_port(port: u16) -> rules::Permission {
    let (start, end) = (i64::from(port), i64::from(port).saturating_add(1));
    matcher(UpstreamIpPortMatcher {
        upstream_port_range: Some(Int64Range { start, end }),
        ..Default::default()
    })
}

fn matcher(matcher: UpstreamIpPortMatcher) -> rules::Permission {
    let matcher = extension("envoy.rbac.matchers.upstream_ip_port", &matcher);
    permission(rules::permission::Rule::Matcher(matcher))
}

fn any_of(of: impl Iterator<Item = rules::Permission>) -> rules::Permission {
    permission(rules::permission::Rule::OrRules(rules::permission::Set { rules: of.collect() }))
}

fn all_of(of: Vec<rules::Permission>) -> rules::Permission {
    permission(rules::permission::Rule::AndRules(rules::permission::Set { rules: of }))
}

fn permission(rule: rules::permission::Rule) -> rules::Permission {
    rules::Permission { rule: Some(rule) }
}
