//! The places where publishes are served.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::xds::Rendered;

/// The reason why a publish is not served at one of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// Another gateway has the host at this port.
    #[error("host {host} at port {port} is served for another gateway")]
    Taken { port: u16, host: String },
    /// Every listener of the gateway serves other hosts only.
    #[error("no listener of the gateway serves host {0}")]
    NotAdmitted(String),
    /// The host is a wildcard, and Envoys of this agent have no module that finds it.
    #[error("host {0} needs the module inside Envoy, which Envoys here do not have")]
    NoModule(String),
    /// The host was this tenant's, and is another's now.
    #[error("host {0} is below a domain that another tenant holds by now")]
    KeptOut(String),
}

/// A port that Envoy listens on, with its gateways.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) rendered: Rendered,
    pub(super) gateways: BTreeSet<Arc<str>>,
}
