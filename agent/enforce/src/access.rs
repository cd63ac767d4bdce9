//! The access rules of one revision of a publish.

mod content;
mod row;

use std::sync::Arc;

use imp_proto::config as pb;
use serde::{Deserialize, Serialize};

use crate::auth_mode::AuthMode;
pub(crate) use content::{AccessRules, RouteRate};
use row::Row;

/// The access rules of a publish, as one of its revisions defines them, and where that revision is
/// served. Clones share everything; publishes with equal rules may share them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct PublishAccess {
    publish_id: Arc<str>,
    hostnames: Arc<[Arc<str>]>,
    base_path: Arc<str>,
    /// Answers 503 to everyone. Belongs to the publish and not to the rules of a revision: it takes
    /// effect at once, whichever routes an Envoy runs.
    pub suspended: bool,
    rules: Arc<AccessRules>,
}

impl From<&pb::Publish> for PublishAccess {
    fn from(publish: &pb::Publish) -> Self {
        Self {
            publish_id: publish.id.as_str().into(),
            hostnames: publish.hostnames.iter().map(|host| host.as_str().into()).collect(),
            base_path: root(&publish.base_path).into(),
            suspended: publish.suspended,
            rules: Arc::new(AccessRules::from(publish)),
        }
    }
}

/// The base path as routes name it.
fn root(base_path: &str) -> &str {
    if base_path.is_empty() { "/" } else { base_path }
}

impl PublishAccess {
    /// The publish.
    pub fn publish_id(&self) -> &Arc<str> {
        &self.publish_id
    }

    /// The hosts where it is served.
    pub fn hostnames(&self) -> &[Arc<str>] {
        &self.hostnames
    }

    /// The same rules and base path for another publish.
    #[must_use]
    pub fn of_publish(&self, publish_id: Arc<str>, hostnames: &[Arc<str>]) -> Self {
        Self { publish_id, hostnames: hostnames.into(), ..self.clone() }
    }

    /// How callers authenticate.
    pub fn auth_mode(&self) -> AuthMode {
        self.rules.digest().mode
    }

    /// Identifies these rules: the mode, 12 hexadecimal digits for gateway and product, and 16 of a
    /// hash over everything that decides. Routes carry the digest, so that each call is judged by
    /// the rules of its route's revision, and a route that requires a key requires it for as long
    /// as an Envoy runs it. Equal rules have the same digest, in every publish and process.
    pub fn digest(&self) -> String {
        self.rules.digest().to_string()
    }

    /// Whether the other has the same rules at the same places.
    pub fn is_same(&self, other: &Self) -> bool {
        self.rules.digest() == other.rules.digest()
            && self.base_path == other.base_path
            && self.hostnames == other.hostnames
    }

    /// Whether both use the same memory for their rules.
    pub fn shares_rules_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.rules, &other.rules)
    }

    /// The hosts and the base path where it is served.
    pub(crate) fn places(&self) -> (&[Arc<str>], &str) {
        (&self.hostnames, &self.base_path)
    }

    pub(crate) fn suspended(self, suspended: bool) -> Self {
        Self { suspended, ..self }
    }

    pub(crate) fn rules(&self) -> &Arc<AccessRules> {
        &self.rules
    }

    /// The same with rules that others share.
    pub(crate) fn with_rules(self, rules: Arc<AccessRules>) -> Self {
        Self { rules, ..self }
    }
}

#[cfg(test)]
mod tests;
