//! The access rules of one revision of a publish.

use std::collections::HashMap;

use imp_proto::{config as pb, policies};
use pb::policy::Kind;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How callers authenticate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthMode {
    /// No authentication.
    None,
    /// A key.
    ApiKey,
    /// A mode that this engine does not know: every call is refused.
    Unsupported,
}

impl AuthMode {
    fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ApiKey => "api_key",
            Self::Unsupported => "unsupported",
        }
    }

    /// The mode of the rules with this digest, even if they are no longer known.
    pub(crate) fn of_digest(digest: &str) -> Self {
        let word = digest.split('.').next();
        let mut asking = [Self::ApiKey, Self::Unsupported].into_iter();
        asking.find(|mode| word == Some(mode.word())).unwrap_or(Self::None)
    }

    /// The stricter of the two.
    pub(crate) fn or_stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unsupported, _) | (_, Self::Unsupported) => Self::Unsupported,
            (Self::ApiKey, _) | (_, Self::ApiKey) => Self::ApiKey,
            (Self::None, Self::None) => Self::None,
        }
    }
}

/// The access rules of a publish, as one of its revisions defines them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishAccess {
    pub publish_id: String,
    pub gateway_id: String,
    pub tenant_id: String,
    pub product_id: String,
    pub environment: String,
    pub auth_mode: AuthMode,
    /// Answers 503 to everyone. Belongs to the publish and not to the rules of a revision: it takes
    /// effect at once, whichever routes an Envoy runs.
    pub suspended: bool,
    /// Rates over all callers.
    pub limits: Vec<RouteLimit>,
}

/// A rate that some routes share, over all callers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteLimit {
    /// Distinct in the publish; the count continues while id and rate stay the same.
    pub id: String,
    /// Calls per window.
    pub requests: u64,
    pub window_seconds: u64,
    /// Ids of the routes.
    pub routes: Vec<String>,
}

impl From<&pb::Publish> for PublishAccess {
    fn from(publish: &pb::Publish) -> Self {
        let auth_mode = match publish.auth_mode() {
            pb::publish::AuthMode::None => AuthMode::None,
            pb::publish::AuthMode::ApiKey => AuthMode::ApiKey,
            _ => AuthMode::Unsupported,
        };
        Self {
            publish_id: publish.id.clone(),
            gateway_id: publish.gateway_id.clone(),
            tenant_id: publish.tenant_id.clone(),
            product_id: publish.product_id.clone(),
            environment: publish.environment.clone(),
            auth_mode,
            suspended: publish.suspended,
            limits: route_limits(publish),
        }
    }
}

impl PublishAccess {
    /// Identifies these rules: the mode, and 16 hexadecimal digits of a hash over everything that
    /// decides. Routes carry the digest, so that each call is judged by the rules of its route's
    /// revision, and a route that requires a key requires it for as long as an Envoy runs it.
    /// Revisions with the same rules have the same digest, in every process.
    pub fn digest(&self) -> String {
        let mode = self.auth_mode.word();
        let mut hash = Sha256::new();
        for text in [&self.gateway_id, &self.tenant_id, &self.product_id, &self.environment] {
            feed(&mut hash, text);
        }
        feed(&mut hash, mode);
        let mut limits: Vec<&RouteLimit> = self.limits.iter().collect();
        limits.sort_by(|a, b| a.id.cmp(&b.id));
        for limit in limits {
            feed(&mut hash, &limit.id);
            hash.update(limit.requests.to_be_bytes());
            hash.update(limit.window_seconds.to_be_bytes());
            let mut routes: Vec<&String> = limit.routes.iter().collect();
            routes.sort();
            hash.update((routes.len() as u64).to_be_bytes());
            routes.into_iter().for_each(|route| feed(&mut hash, route));
        }
        let hash: String =
            hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{mode}.{hash}")
    }
}

/// Hashes the length first, so that different lists of texts never hash the same input.
fn feed(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}

/// One per policy: routes that name the same policy share its count.
fn route_limits(publish: &pb::Publish) -> Vec<RouteLimit> {
    let publish = policies::present(publish);
    let mut limits: Vec<RouteLimit> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for route in publish.api_services.iter().flat_map(|service| &service.routes) {
        // An index outside of the list is refused when the publish is rendered.
        for policy in policies::of_route(&publish.policies, route).flatten() {
            let Some(rate) = rate(policy) else { continue };
            let place = *places.entry(policy.id.as_str()).or_insert_with(|| {
                limits.push(RouteLimit {
                    id: policy.id.clone(),
                    requests: rate.requests,
                    window_seconds: rate.window_seconds,
                    routes: Vec::new(),
                });
                limits.len() - 1
            });
            if let Some(limit) = limits.get_mut(place) {
                limit.routes.push(route.id.clone());
            }
        }
    }
    limits
}

fn rate(policy: &pb::Policy) -> Option<pb::RateLimit> {
    match &policy.kind {
        Some(Kind::RateLimit(rate)) => Some(*rate),
        // Enforced by Envoy. Each type is named, so that a new one does not compile before it is
        // handled.
        Some(
            Kind::RequestHeaders(_) | Kind::ResponseHeaders(_) | Kind::IpAccess(_) | Kind::Cors(_),
        )
        | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> PublishAccess {
        let limit = |id: &str, routes: &[&str]| RouteLimit {
            id: id.into(),
            requests: 1,
            window_seconds: 60,
            routes: routes.iter().map(|route| (*route).to_owned()).collect(),
        };
        PublishAccess {
            publish_id: "p".into(),
            gateway_id: "g".into(),
            tenant_id: "t".into(),
            product_id: "q".into(),
            environment: "prod".into(),
            auth_mode: AuthMode::ApiKey,
            suspended: false,
            limits: vec![limit("a", &["r1", "r2"]), limit("b", &["r3"])],
        }
    }

    #[test]
    fn the_digest_changes_with_what_decides_and_with_nothing_else() {
        let digest = access().digest();
        assert_eq!(digest, "api_key.88e72ffb9af3428e", "it is the same in every build");
        let mut same = access();
        same.suspended = true;
        same.limits.reverse();
        same.limits.iter_mut().for_each(|limit| limit.routes.reverse());
        assert_eq!(same.digest(), digest);
        let changes: [fn(&mut PublishAccess); 9] = [
            |it| it.gateway_id = "other".into(),
            |it| it.tenant_id = "other".into(),
            |it| it.product_id = "other".into(),
            |it| it.environment = "dev".into(),
            |it| it.auth_mode = AuthMode::None,
            |it| it.limits[0].requests = 2,
            |it| it.limits[0].window_seconds = 61,
            |it| it.limits[0].routes.truncate(1),
            |it| it.limits.truncate(1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = access();
            change(&mut other);
            assert_ne!(other.digest(), digest, "{number}");
        }
    }
}
