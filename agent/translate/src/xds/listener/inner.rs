//! The listener behind somebody else's: an internal listener, to which a virtual host of theirs leads. Calls
//! have passed their connection manager, so connections are that Envoy's own, and who calls is what theirs says.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Duration;

use super::{chain, connection_manager, early, fed};
use crate::ir::Edge;
use crate::xds::Options;
use crate::xds::canon::{milliseconds, truth, uint};

/// How long that Envoy waits for the agent before it opens its ports, those of others included.
const LONGEST_WARMING: Duration = Duration { seconds: 3, nanos: 0 };

/// Longer than the outer side keeps connections, so that none is closed under a call.
const IDLE_MS: u32 = 3_600_000;

/// The internal listener for what is served at this port of the gateway.
pub(crate) fn inner(name: &str, port: u16, edge: &Edge, options: &Options) -> envoy::Listener {
    use envoy::listener::{InternalListenerConfig, ListenerSpecifier};
    envoy::Listener {
        name: name.to_owned(),
        listener_specifier: Some(ListenerSpecifier::InternalListener(
            InternalListenerConfig::default(),
        )),
        per_connection_buffer_limit_bytes: uint(32_768),
        filter_chains: vec![chain(&manager(port, edge, options), false)],
        ..Default::default()
    }
}

fn manager(port: u16, edge: &Edge, options: &Options) -> hcm::HttpConnectionManager {
    let usual = connection_manager(port, edge, options, None);
    let fed = fed::by_the_agent(usual, &options.agent_cluster, Some(LONGEST_WARMING));
    hcm::HttpConnectionManager {
        stat_prefix: format!("inner_{port}"),
        early_header_mutation_extensions: early::mutations(port, edge, None, edge.trusted_hops + 1),
        // The last address that the outer side wrote, or what it says of those who wrote before.
        use_remote_address: truth(false),
        xff_num_trusted_hops: edge.trusted_hops,
        preserve_external_request_id: true,
        common_http_protocol_options: fed.common_http_protocol_options.map(|of_callers| {
            core::HttpProtocolOptions {
                idle_timeout: milliseconds(IDLE_MS),
                max_connection_duration: None,
                max_requests_per_connection: None,
                ..of_callers
            }
        }),
        // Calls of others are on the same connection.
        stream_error_on_invalid_http_message: truth(true),
        http_protocol_options: fed
            .http_protocol_options
            .map(|of_callers| core::Http1ProtocolOptions { accept_http_10: false, ..of_callers }),
        ..fed
    }
}
