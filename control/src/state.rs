//! The state that every request can use.

use std::sync::Arc;

use chrono::TimeDelta;
use imp_core::hostname::SharedDomains;
use imp_core::port::ReservedPorts;
use imp_core::upstream::UpstreamPolicy;
pub use imp_process::clock::Clock;
use imp_store::Store;

use crate::admission::Admission;
use crate::dns::Dns;
use crate::readiness::Readiness;

/// Shared by all handlers. Cheap to clone.
#[derive(Clone)]
pub struct State {
    pub store: Store,
    pub clock: Clock,
    pub upstreams: Arc<UpstreamPolicy>,
    pub readiness: Readiness,
    pub admission: Admission,
    pub claims: Arc<ClaimRules>,
    pub dns: Dns,
}

/// The deployment's rules for hostnames and ports.
#[derive(Debug, Default)]
pub struct ClaimRules {
    pub shared_domains: SharedDomains,
    /// How long an unused hostname stays reserved for its former tenant.
    pub hostname_cooldown: TimeDelta,
    pub reserved_ports: ReservedPorts,
    /// Whether the agents can serve several gateways on one port.
    pub share_ports: bool,
}
