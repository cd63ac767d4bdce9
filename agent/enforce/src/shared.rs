//! Access rules that publishes share: one product is often published at many hosts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::access::{AccessRules, PublishAccess};
use crate::digest::Digest;

/// The rules that are in use.
#[derive(Debug, Default)]
pub(crate) struct SharedRules {
    by_digest: Mutex<HashMap<Digest, Weak<AccessRules>>>,
}

impl SharedRules {
    /// The same access, with rules that equal ones share.
    pub(crate) fn share(&self, access: PublishAccess) -> PublishAccess {
        let mut known = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = known.entry(*access.rules().digest()).or_default();
        match slot.upgrade() {
            // The digest is short: compared, too.
            Some(rules) if rules == *access.rules() => access.with_rules(rules),
            Some(_) => access,
            None => {
                *slot = Arc::downgrade(access.rules());
                access
            }
        }
    }

    /// Drops what nobody uses.
    pub(crate) fn evict_idle(&self) {
        let mut known = self.by_digest.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, rules| rules.strong_count() > 0);
        known.shrink_to_fit();
    }
}
