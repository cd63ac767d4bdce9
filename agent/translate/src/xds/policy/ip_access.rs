//! `ip_access`: rules of the RBAC filter before authentication.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::CidrRange;
use envoy_types::pb::envoy::config::rbac::v3 as rules;
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::{Rbac, RbacPerRoute};
use ipnet::IpNet;
use rules::principal::{Identifier, Set};

use crate::ir::policy::IpAccess;
use crate::xds::canon::uint;
use crate::xds::names::ADDRESS_DENIED;

/// Refuses addresses that are not allowed, or denied. The address is the caller's, determined
/// through trusted proxies.
pub(super) fn render(access: &IpAccess) -> RbacPerRoute {
    let mut denied: Vec<_> = access.deny.iter().map(from).collect();
    if !access.allow.is_empty() {
        let allowed = any_of(access.allow.iter().map(from).collect());
        denied.push(principal(Identifier::NotId(Box::new(allowed))));
    }
    let denied = rules::Policy {
        permissions: vec![rules::Permission { rule: Some(rules::permission::Rule::Any(true)) }],
        principals: vec![any_of(denied)],
        ..Default::default()
    };
    let rules = rules::Rbac {
        action: rules::rbac::Action::Deny.into(),
        policies: HashMap::from([(ADDRESS_DENIED.to_owned(), denied)]),
        ..Default::default()
    };
    RbacPerRoute { rbac: Some(Rbac { rules: Some(rules), ..Default::default() }) }
}

fn from(net: &IpNet) -> rules::Principal {
    principal(Identifier::RemoteIp(CidrRange {
        address_prefix: net.network().to_string(),
        prefix_len: uint(net.prefix_len().into()),
    }))
}

fn any_of(ids: Vec<rules::Principal>) -> rules::Principal {
    principal(Identifier::OrIds(Set { ids }))
}

fn principal(identifier: Identifier) -> rules::Principal {
    rules::Principal { identifier: Some(identifier) }
}
