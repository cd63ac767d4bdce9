//! The engine: what it holds and how it decides.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use imp_proto::config as pb;

use crate::access::PublishAccess;
use crate::decision::{Call, Decision, Denial};
use crate::usage::{Counter, Snapshot};

/// All that a door needs. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {}

impl Engine {
    /// Knows nothing: refuses everyone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a publish.
    pub fn put_publish(&self, _publish: PublishAccess) {}

    /// From now on its calls are refused.
    pub fn remove_publish(&self, _id: &str) {}

    /// Adds or replaces what a subscription may do. Counts of unchanged limits go on.
    pub fn put_entitlement(&self, _entitlement: &pb::Entitlement) {}

    /// From now on its consumers are refused.
    pub fn remove_entitlement(&self, _id: &str) {}

    /// Adds or replaces a key.
    pub fn put_credential(&self, _credential: &pb::Credential) {}

    /// From now on the key is refused.
    pub fn remove_credential(&self, _id: &str) {}

    /// Decides about one call and counts it.
    pub fn decide(&self, _call: &Call<'_>) -> Decision {
        let _ = &self.inner;
        Decision::Deny(Denial {
            status: 403,
            code: "unknown_publish",
            title: "Unknown publish",
            log_reason: "unknown_publish",
            detail: None,
            retry_after: None,
            response_headers: Vec::new(),
        })
    }

    /// The counters that changed after `since`, and the mark to ask with next time. 0: all.
    pub fn usage_changed_since(&self, since: u64) -> (u64, Vec<Counter>) {
        (since, Vec::new())
    }

    /// Forgets counters of hours that ended before `before`. The caller knows that they are
    /// committed elsewhere.
    pub fn forget_usage(&self, _before: DateTime<Utc>) {}

    /// Frees limits of consumers that are full again. Costs a walk over all of them: once a minute.
    pub fn evict_idle(&self, _now: DateTime<Utc>) {}

    /// What must survive a restart.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::default()
    }

    /// Continues from a snapshot; before the first call.
    pub fn restore(&self, _snapshot: Snapshot) {}
}
