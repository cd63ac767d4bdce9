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
}

/// A port that Envoy listens on, with its gateways.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) rendered: Rendered,
    pub(super) gateways: BTreeSet<Arc<str>>,
}
