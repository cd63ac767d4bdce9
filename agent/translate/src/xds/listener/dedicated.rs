//! The connection manager of a listener that is Envoy Gateway's and serves us alone. It meets callers itself, so it is the
//! one of our own listeners, but for where its resources come from.

use envoy_types::pb::envoy::config::listener::v3 as envoy;

use super::{chain, connection_manager, fed};
use crate::ir::Edge;
use crate::xds::Options;

/// A filter chain with that connection manager alone. It opens when the agent has answered, as our own listeners do.
pub(crate) fn dedicated(port: u16, edge: &Edge, options: &Options) -> envoy::FilterChain {
    let usual = connection_manager(port, edge, options, None);
    chain(&fed::by_the_agent(usual, &options.agent_cluster, None), false)
}
