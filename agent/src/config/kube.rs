//! Flags for Kubernetes.

use std::path::PathBuf;

use clap::Args;

/// Delivers into a Kubernetes cluster. Off unless one of the first two is given.
#[derive(Clone, Debug, Default, Args)]
pub struct KubeFlags {
    /// Deliver into the Kubernetes cluster that this kubeconfig is for: publishes by Gateway API
    /// (docs/gateway-classes.md), and with --kube-agent-address gateways on labelled Gateways of Envoy
    /// Gateway (docs/kubernetes.md).
    #[arg(long, env = "IMP_KUBECONFIG", value_name = "FILE", group = "kubernetes")]
    pub kubeconfig: Option<PathBuf>,
    /// The same for the cluster that the agent runs in, as its pod's service account.
    #[arg(long, env = "IMP_KUBE", group = "kubernetes")]
    pub kube: bool,
    /// The address by which Envoys in the Kubernetes cluster find --xds-listen of this agent: that of a
    /// Service, such as imp-agent.imp-system.svc:18000.
    #[arg(long, env = "IMP_KUBE_AGENT_ADDRESS", value_name = "HOST:PORT", requires = "kubernetes")]
    pub kube_agent_address: Option<HostPort>,
    /// The namespace of Envoy Gateway's Envoys, where the Secret with their certificate goes.
    #[arg(
        long,
        env = "IMP_KUBE_ENVOY_NAMESPACE",
        default_value = "envoy-gateway-system",
        value_name = "NAME",
        requires = "kube_agent_address"
    )]
    pub kube_envoy_namespace: String,
    /// The namespaces whose Gateways and routes are looked at [default: all].
    #[arg(
        long,
        env = "IMP_KUBE_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAME,..",
        requires = "kube_agent_address"
    )]
    pub kube_namespace: Vec<String>,
}

impl KubeFlags {
    /// Whether there is anything to do.
    pub fn is_on(&self) -> bool {
        self.kube || self.kubeconfig.is_some()
    }

    /// Whether gateways are attached to Gateways: their Envoys must find this agent.
    pub fn attaches(&self) -> bool {
        self.is_on() && self.kube_agent_address.is_some()
    }
}

/// A host or an address, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl std::str::FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let what = || "a host or an address, a colon and a port".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(what)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(what)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        let is_valid = !host.is_empty() && host.len() <= 253 && host.chars().all(plain);
        if !is_valid || host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(what());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Cli;
    use clap::Parser as _;

    #[test]
    fn no_flag_is_without_effect() {
        let parse =
            |flags: &str| Cli::try_parse_from(["imp-agent"].into_iter().chain(flags.split(' ')));
        for flags in [
            "--kube-agent-address a:1",
            "--gateway-class traefik",
            "--gateway-api-namespace a",
            "--fallback-after 10",
            "--kube --kube-namespace a",
            "--kube --kube-envoy-namespace a",
            "--kube --kubeconfig a",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
        let all = "--kube --kube-agent-address a:1 --kube-namespace a --kube-envoy-namespace b \
                   --gateway-class traefik --gateway-api-namespace c --fallback-after 10";
        for flags in ["--kube", "--kubeconfig a", all] {
            assert!(parse(flags).is_ok(), "{flags}");
        }
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        let read = |text: &str| text.parse::<HostPort>().map(|it| (it.host, it.port));
        assert_eq!(read("imp-agent.imp.svc:18000"), Ok(("imp-agent.imp.svc".to_owned(), 18000)));
        assert_eq!(read("10.0.0.1:1"), Ok(("10.0.0.1".to_owned(), 1)));
        assert_eq!(read("[::1]:1"), Ok(("::1".to_owned(), 1)));
        for wrong in ["", "a", ":1", "a:0", "a:70000", "a b:1", "a\":1", "a:b:1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
