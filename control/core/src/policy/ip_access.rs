//! `ip_access`: the addresses that calls may come from. Checked before authentication.

use imp_grammar::{caps, network};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Check, Violations};

/// Networks in CIDR notation or single addresses, IPv4 and IPv6. A call is allowed if its address
/// is in `allow`, or `allow` is empty, and it is not in `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IpAccess {
    /// Only these are allowed; when empty, all are.
    #[serde(default)]
    #[schema(example = json!(["203.0.113.0/24"]))]
    pub allow: Vec<String>,
    /// These are refused, even if they are in `allow`.
    #[serde(default)]
    #[schema(example = json!(["203.0.113.66"]))]
    pub deny: Vec<String>,
}

impl Check for IpAccess {
    fn check(&self, v: &mut Violations) {
        let lists = [("allow", &self.allow), ("deny", &self.deny)];
        if lists.iter().all(|(_, list)| list.is_empty()) {
            v.add("allow", "required", "without a network in 'allow' or 'deny' it does nothing");
        }
        let longest = if self.allow.len() < self.deny.len() { "deny" } else { "allow" };
        let together = self.allow.len() + self.deny.len();
        if !v.at_most(longest, together, &caps::NETWORKS_PER_POLICY) {
            return;
        }
        for (name, list) in lists {
            v.each(name, list, |v, text| {
                if network::parse(text).is_none() {
                    let detail = "a network such as 203.0.113.0/24 or 2001:db8::/32, or an address";
                    v.add("", "invalid_network", detail);
                }
            });
        }
    }
}
