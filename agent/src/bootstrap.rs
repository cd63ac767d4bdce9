//! The bootstrap configuration of an Envoy: how it finds the agent, which sends everything else.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use imp_grammar::caps;

use crate::config::{Bootstrap, hostname};
use crate::port::{AGENT_URI, ALL_GATEWAYS, Address, quoted};

/// The static cluster of the agent.
pub const AGENT_CLUSTER: &str = "agent";

/// The bootstrap, as YAML.
pub fn render(options: &Bootstrap) -> Result<String> {
    let agent = Address::or_default(options.xds_listen.as_ref(), &options.state_dir);
    let node = options.node_id.clone().unwrap_or_else(|| format!("envoy-{}", hostname()));
    let gateway = options.gateway_id.map_or(ALL_GATEWAYS.to_owned(), |id| id.to_string());
    // JSON strings are YAML strings, whatever they contain.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let tls = transport(&agent, options.node_certificate.as_deref())?;
    let addresses = [&agent].into_iter().chain(&options.other_agent);
    let endpoints =
        addresses.map(|address| lb_endpoint(address, &agent)).collect::<Result<String>>()?;
    Ok(TEMPLATE
        .replace("@NODE@", &quoted(&node))
        .replace("@GATEWAY@", &quoted(&gateway))
        .replace("@ADMIN@", &options.envoy_admin.yaml())
        .replace("@ENDPOINTS@\n", &endpoints)
        .replace("@AGENT_TLS@\n", &tls)
        .replace("@PROGRAM@", &caps::ENVOY_REGEX_PROGRAM.value.to_string())
        .replace("@HEAP@", &(options.max_heap_mib << 20).to_string())
        .replace("@CONNECTIONS@", &options.max_connections.to_string())
        .replace("@AGENT@", AGENT_CLUSTER))
}

/// An endpoint for one agent of the cluster. Over TCP each agent has its own authority, while Envoy
/// has one certificate.
fn lb_endpoint(address: &Address, first: &Address) -> Result<String> {
    let one_authority =
        address == first || matches!((address, first), (Address::Unix(_), Address::Unix(_)));
    ensure!(one_authority, "--other-agent: agents share an Envoy over Unix sockets only");
    Ok(format!("        - endpoint: {{address: {}}}\n", endpoint(address)?))
}

/// The agent's address in YAML. Envoy may run in another directory, so a path is made absolute.
fn endpoint(agent: &Address) -> Result<String> {
    match agent {
        Address::Unix(path) => {
            let path = std::path::absolute(path)?;
            let path = path.to_str().context("--xds-listen: the path is not UTF-8")?;
            Ok(format!("{{pipe: {{path: {}}}}}", serde_json::Value::from(path)))
        }
        Address::Tcp(address) => {
            ensure!(address.port() != 0, "--xds-listen: name the port that the agent listens on");
            let ip = address.ip();
            let ip = if ip.is_unspecified() { std::net::Ipv4Addr::LOCALHOST.into() } else { ip };
            let port = address.port();
            Ok(format!("{{socket_address: {{address: \"{ip}\", port_value: {port}}}}}"))
        }
    }
}

/// The TLS settings between Envoy and the agent over TCP, in YAML.
fn transport(agent: &Address, certificate: Option<&Path>) -> Result<String> {
    let directory = match (agent, certificate) {
        (Address::Unix(_), None) => return Ok(String::new()),
        (Address::Unix(_), Some(_)) => bail!("--node-certificate is for --xds-listen ADDR:PORT"),
        (Address::Tcp(address), None) => {
            bail!("--xds-listen {address}: a TCP port needs --node-certificate DIR")
        }
        (Address::Tcp(_), Some(directory)) => std::path::absolute(directory)?,
    };
    Ok(TLS
        .replace("@SDS@", &quoted(&directory.join("sds.yaml")))
        .replace("@DIRECTORY@", &quoted(&directory))
        .replace("@CA@", &quoted(&directory.join("ca.pem")))
        .replace("@URI@", AGENT_URI))
}

const TLS: &str = r#"    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context:
          tls_certificate_sds_secret_configs:
          - name: node
            sds_config:
              resource_api_version: V3
              path_config_source: {path: @SDS@, watched_directory: {path: @DIRECTORY@}}
          validation_context:
            trusted_ca: {filename: @CA@}
            match_typed_subject_alt_names:
            - {san_type: URI, matcher: {exact: "@URI@"}}
"#;

/// One delta stream carries every type. The node is 61 KB (Envoy lists its extensions), so it is
/// sent once per stream. Clusters and their statistics are created on first use, so that 10,000 of
/// them fit.
const TEMPLATE: &str = r#"# Printed by imp-agent bootstrap. Envoy 1.40 or newer: it judges the address of every upstream.
node:
  id: @NODE@
  cluster: @GATEWAY@
@ADMIN@
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    transport_api_version: V3
    set_node_on_first_message_only: true
    grpc_services:
    - envoy_grpc:
        cluster_name: @AGENT@
        # Without it Envoy waits up to 30 s after an agent's restart.
        retry_policy: {retry_back_off: {base_interval: 0.05s, max_interval: 1s}}
  lds_config: {ads: {}, resource_api_version: V3}
  cds_config: {ads: {}, resource_api_version: V3}
# A path template is an expression to Envoy, and its own limit of 100 instructions is less than a long
# path. What tenants may write is bounded before, by the API and the agent.
layered_runtime:
  layers:
  - name: expressions
    static_layer: {re2.max_program_size.error_level: @PROGRAM@}
cluster_manager:
  enable_deferred_cluster_creation: true
deferred_stat_options:
  enable_deferred_creation_stats: true
# There are no sinks. By the clock, with thousands of clusters, it holds up the thread that takes configuration.
stats_flush_on_admin: true
static_resources:
  clusters:
  # Configuration, and the decision about each call.
  - name: @AGENT@
    type: STATIC
    connect_timeout: 1s
@AGENT_TLS@
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options:
            connection_keepalive: {interval: 10s, timeout: 5s}
    circuit_breakers:
      thresholds:
      - {max_connections: 10000, max_pending_requests: 10000, max_requests: 10000, max_retries: 10000}
    # An agent that does not answer is left out for a second, if there is another.
    outlier_detection:
      split_external_local_origin_errors: true
      consecutive_local_origin_failure: 2
      interval: 0.2s
      base_ejection_time: 1s
      max_ejection_time: 5s
      max_ejection_percent: 50
    load_assignment:
      cluster_name: @AGENT@
      endpoints:
      - lb_endpoints:
@ENDPOINTS@
overload_manager:
  refresh_interval: 0.25s
  resource_monitors:
  - name: envoy.resource_monitors.fixed_heap
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig
      max_heap_size_bytes: @HEAP@
  - name: envoy.resource_monitors.global_downstream_max_connections
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig
      max_active_downstream_connections: @CONNECTIONS@
  actions:
  - name: envoy.overload_actions.shrink_heap
    triggers: [{name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.95}}]
  - name: envoy.overload_actions.stop_accepting_requests
    triggers: [{name: envoy.resource_monitors.fixed_heap, threshold: {value: 0.98}}]
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Bootstrap {
        Bootstrap {
            xds_listen: Some(Address::Unix("/run/imp \"x\"/xds.sock".into())),
            other_agent: Vec::new(),
            state_dir: "state".into(),
            envoy_admin: "unix:/run/envoy@admin.sock".parse().unwrap(),
            node_certificate: None,
            node_id: Some("a \"b\": {".to_owned()),
            gateway_id: None,
            max_heap_mib: 2048,
            max_connections: 50_000,
        }
    }

    #[test]
    fn every_place_is_filled_and_nothing_breaks_out_of_it() {
        let yaml = render(&options()).unwrap();
        let places = yaml.replace("\"@type\"", "").replace("envoy@admin", "");
        assert!(!places.contains('@'), "{yaml}");
        assert!(yaml.contains(r#"id: "a \"b\": {""#), "{yaml}");
        assert!(yaml.contains(r#"{pipe: {path: "/run/imp \"x\"/xds.sock"}}"#), "{yaml}");
        assert!(yaml.contains("max_heap_size_bytes: 2147483648"), "{yaml}");
    }

    #[test]
    fn the_socket_is_in_the_state_directory_by_default_and_its_path_absolute() {
        let yaml = render(&Bootstrap { xds_listen: None, ..options() }).unwrap();
        let path = std::path::absolute("state/xds.sock").unwrap();
        assert!(yaml.contains(&format!("path: {:?}", path.display().to_string())), "{yaml}");
    }

    #[test]
    fn agents_share_an_envoy_over_sockets() {
        let other: Address = "unix:/run/other.sock".parse().unwrap();
        let two = Bootstrap { other_agent: vec![other], ..options() };
        let yaml = render(&two).unwrap();
        assert_eq!(yaml.matches("- endpoint: {address: {pipe:").count(), 2, "{yaml}");
        assert!(yaml.contains(r#"{pipe: {path: "/run/other.sock"}}"#), "{yaml}");
        let tcp = Bootstrap { other_agent: vec!["10.0.0.1:1".parse().unwrap()], ..options() };
        assert!(render(&tcp).is_err());
    }

    #[test]
    fn a_port_needs_certificates_and_a_socket_none() {
        let tcp = Some("10.0.0.1:18000".parse().unwrap());
        let without = Bootstrap { xds_listen: tcp.clone(), ..options() };
        assert!(render(&without).unwrap_err().to_string().contains("--node-certificate"));
        let directory = Some("/etc/envoy/node".into());
        let yaml = render(&Bootstrap { node_certificate: directory.clone(), ..without }).unwrap();
        assert!(yaml.contains(r#"trusted_ca: {filename: "/etc/envoy/node/ca.pem"}"#), "{yaml}");
        assert!(yaml.contains(r#"{address: "10.0.0.1", port_value: 18000}"#), "{yaml}");
        assert!(render(&Bootstrap { node_certificate: directory, ..options() }).is_err());
    }
}
