//! The bootstrap of Envoy Gateway's Envoys: how they find the agent.

use serde_json::{Value, json};

use super::attachment::Attachment;

/// Where the Secret is mounted.
pub const CERTIFICATES: &str = "/imp/node";

/// The agent, as these Envoys find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The cluster of this name in their bootstrap.
    pub cluster: String,
    /// A host or an address.
    pub host: String,
    pub port: u16,
    /// The URI in its certificate.
    pub uri: String,
}

/// The EnvoyProxy that the Gateway names in `spec.infrastructure.parametersRef`. Its bootstrap is merged with
/// Envoy Gateway's.
pub fn envoy_proxy(attachment: &Attachment, agent: &Agent) -> Value {
    let volume = "imp-node";
    json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyProxy",
        "metadata": attachment.metadata(),
        "spec": {
            "bootstrap": {"type": "Merge", "value": bootstrap(agent)},
            "provider": {
                "type": "Kubernetes",
                "kubernetes": {"envoyDeployment": {
                    "pod": {"volumes": [
                        {"name": volume, "secret": {"secretName": attachment.secret_name()}},
                    ]},
                    "container": {"volumeMounts": [
                        {"name": volume, "mountPath": CERTIFICATES, "readOnly": true},
                    ]},
                }},
            },
        },
    })
}

/// JSON, which is YAML, too.
fn bootstrap(agent: &Agent) -> String {
    let internal = "envoy.bootstrap.internal_listener";
    let bootstrap = json!({
        "static_resources": {"clusters": [cluster(agent)]},
        "bootstrap_extensions": [{
            "name": internal,
            "typed_config": {"@type":
                "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"},
        }],
    });
    format!("{bootstrap:#}\n")
}

/// Configuration, and the decision about each call.
fn cluster(agent: &Agent) -> Value {
    let is_address = agent.host.parse::<std::net::IpAddr>().is_ok();
    let address = json!({"socket_address": {"address": agent.host, "port_value": agent.port}});
    json!({
        "name": agent.cluster,
        "type": if is_address { "STATIC" } else { "STRICT_DNS" },
        "connect_timeout": "1s",
        "transport_socket": {
            "name": "envoy.transport_sockets.tls",
            "typed_config": tls(agent),
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {
                    "connection_keepalive": {"interval": "10s", "timeout": "5s"},
                }},
            },
        },
        "circuit_breakers": {"thresholds": [{
            "max_connections": 10_000,
            "max_pending_requests": 10_000,
            "max_requests": 10_000,
            "max_retries": 10_000,
        }]},
        "load_assignment": {
            "cluster_name": agent.cluster,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

fn tls(agent: &Agent) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{
                "name": "node",
                "sds_config": {
                    "resource_api_version": "V3",
                    "path_config_source": {
                        "path": format!("{CERTIFICATES}/sds.yaml"),
                        "watched_directory": {"path": CERTIFICATES},
                    },
                },
            }],
            "validation_context": {
                "trusted_ca": {"filename": format!("{CERTIFICATES}/ca.pem")},
                "match_typed_subject_alt_names":
                    [{"san_type": "URI", "matcher": {"exact": agent.uri}}],
            },
        },
    })
}

/// The file by which Envoy takes a renewed certificate without a restart.
pub(super) fn sds() -> String {
    let file = |name: &str| json!({"filename": format!("{CERTIFICATES}/{name}")});
    let secret = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "node",
        "tls_certificate": {
            "certificate_chain": file("node.pem"),
            "private_key": file("node.key"),
        },
    });
    json!({"resources": [secret]}).to_string()
}
