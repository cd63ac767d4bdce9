//! Which policies apply to a route.

use std::collections::HashMap;

use super::Policy;

/// The policies of a service, grouped by what they are attached to.
#[derive(Debug)]
pub struct Effective<'a> {
    of_service: Vec<&'a Policy>,
    of_route: HashMap<&'a str, Vec<&'a Policy>>,
}

impl<'a> Effective<'a> {
    /// Groups the policies of one service.
    pub fn of(policies: &'a [Policy]) -> Self {
        let (mut of_service, mut of_route) = (Vec::new(), HashMap::<_, Vec<_>>::new());
        for policy in policies {
            match policy.route.as_deref() {
                None => of_service.push(policy),
                Some(route) => of_route.entry(route).or_default().push(policy),
            }
        }
        Self { of_service, of_route }
    }

    /// The policies that apply to this route, at most one per type: its own, and the service's of
    /// types that it has none of.
    pub fn on(&self, route: &str) -> Vec<&'a Policy> {
        let mut effective: Vec<&Policy> = Vec::new();
        let own = self.of_route.get(route).into_iter().flatten();
        for policy in own.chain(&self.of_service) {
            if !effective.iter().any(|other| other.config.kind() == policy.config.kind()) {
                effective.push(policy);
            }
        }
        effective
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, kind: &str, route: Option<&str>) -> Policy {
        let config = match kind {
            "rate_limit" => serde_json::json!({ "requests": 5, "per": "minute" }),
            "ip_access" => serde_json::json!({ "allow": ["10.0.0.0/8"] }),
            _ => serde_json::json!({ "remove": ["x-a"] }),
        };
        let policy =
            serde_json::json!({ "name": name, "type": kind, "config": config, "route": route });
        serde_json::from_value(policy).unwrap()
    }

    #[test]
    fn a_routes_policy_takes_the_place_of_its_services_type_by_type() {
        let policies = [
            policy("slow", "rate_limit", None),
            policy("office", "ip_access", None),
            policy("pay-slower", "rate_limit", Some("pay")),
            policy("pay-clean", "request_headers", Some("pay")),
            policy("other", "ip_access", Some("other")),
        ];
        let effective = Effective::of(&policies);
        let on = |route| effective.on(route).iter().map(|p| p.name.as_str()).collect::<Vec<_>>();
        assert_eq!(on("pay"), ["pay-slower", "pay-clean", "office"]);
        assert_eq!(on("other"), ["other", "slow"]);
        assert_eq!(on("plain"), ["slow", "office"]);
        assert_eq!(Effective::of(&[]).on("plain"), Vec::<&Policy>::new());
    }

    #[test]
    fn of_two_of_a_type_the_first_counts() {
        // The API refuses duplicates; a stored service may have them.
        let policies = [policy("one", "rate_limit", None), policy("two", "rate_limit", None)];
        let names: Vec<_> = Effective::of(&policies).on("r").iter().map(|p| &p.name).collect();
        assert_eq!(names, ["one"]);
    }
}
