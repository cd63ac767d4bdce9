//! The configuration. Every flag is also an environment variable.

mod envoy_admin;
mod gateway_api;
mod kube;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use imp_process::log::LogFormat;

use crate::port::{ALL_GATEWAYS, Address};
pub use envoy_admin::EnvoyAdmin;
pub use gateway_api::{ClassName, GatewayApiFlags};
pub use kube::{HostPort, KubeFlags};

/// The agent of a cluster: configures its Envoys as the control plane says, also while the control
/// plane is away.
#[derive(Debug, Parser)]
#[command(name = "imp-agent", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve (the default).
    Serve(Box<Config>),
    /// Issue the certificate that authenticates an Envoy on another machine, and exit.
    NodeCertificate(NodeCertificate),
    /// Print the bootstrap with which an Envoy finds this agent (`envoy -c FILE`), and exit.
    Bootstrap(Bootstrap),
    /// Print path, hash and versions of a module for --door module, and exit.
    Module(Module),
    /// Let the running agent remove what the control plane no longer has, although it is much at
    /// once.
    AcceptShrink(AcceptShrink),
}

/// Options of `serve`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// The control plane's address for agents.
    #[arg(long, env = "IMP_CONTROL", default_value = "http://127.0.0.1:8081", value_name = "URL")]
    pub control: String,
    /// The certificate authority (PEM) of a control plane at https://.
    #[arg(long, env = "IMP_CONTROL_CA", value_name = "FILE")]
    pub control_ca: Option<PathBuf>,
    /// Connect without TLS to a control plane on another machine. Anyone on the network path can
    /// then read all configuration and the registration token, or take control of the agent.
    #[arg(long, env = "IMP_CONTROL_INSECURE")]
    pub insecure: bool,
    /// Registers this agent with its cluster at the first start; not needed afterwards. Better set
    /// in the environment, where other users cannot see it.
    #[arg(
        long,
        env = "IMP_REGISTRATION_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        allow_hyphen_values = true
    )]
    pub registration_token: Option<String>,
    /// The address that Envoys connect to for configuration and decisions: a Unix socket [default:
    /// xds.sock in the state directory], which only the agent's own user and the users of
    /// --envoy-uid may connect to; or a TCP port with TLS, which requires a certificate of every
    /// Envoy (imp-agent node-certificate).
    #[arg(long, env = "IMP_XDS_LISTEN", value_name = "unix:PATH|ADDR:PORT")]
    pub xds_listen: Option<Address>,
    /// The user of an Envoy that runs as another user than the agent. The socket must then be
    /// outside of the state directory, which is closed to others.
    #[arg(long, env = "IMP_ENVOY_UID", value_delimiter = ',', value_name = "UID,..")]
    pub envoy_uid: Vec<u32>,
    /// The address of health, metrics and status.
    #[arg(
        long,
        env = "IMP_ADMIN_LISTEN",
        default_value = "127.0.0.1:18001",
        value_name = "ADDR:PORT"
    )]
    pub admin_listen: String,
    /// The directory of the identity and the last-known-good configuration; created when missing.
    #[arg(long, env = "IMP_STATE_DIR", default_value = "./imp-agent-state", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The address that Envoy's listeners bind.
    #[arg(long, env = "IMP_BIND_ADDRESS", default_value = "0.0.0.0", value_name = "ADDR")]
    pub bind_address: std::net::IpAddr,
    /// Networks that backends may be in although they are not public, as configured on the control
    /// plane; names in the list are judged by the addresses they resolve to.
    #[arg(long, env = "IMP_ALLOW_UPSTREAMS", value_delimiter = ',', value_name = "HOST|CIDR,..")]
    pub allow_upstream: Vec<String>,
    /// Networks that no backend may be in, even if allowed otherwise. The agent's own ports and the
    /// control plane's are always closed.
    #[arg(
        long,
        env = "IMP_DENY_UPSTREAMS",
        value_delimiter = ',',
        value_name = "CIDR|ADDR:PORT,.."
    )]
    pub deny_upstream: Vec<String>,
    /// The DNS servers that resolve the names of backends [default: those of Envoy's host].
    #[arg(long, env = "IMP_UPSTREAM_DNS", value_delimiter = ',', value_name = "ADDR:PORT,..")]
    pub upstream_dns: Vec<std::net::SocketAddr>,
    /// The file on Envoy's host with the certificate authorities that verify backends' TLS
    /// [default: /etc/ssl/certs/ca-certificates.crt].
    #[arg(long, env = "IMP_UPSTREAM_CA_FILE", value_name = "FILE")]
    pub upstream_ca_file: Option<PathBuf>,
    /// The address of Envoy's admin interface, as for `bootstrap`; a TCP port is closed to
    /// backends.
    #[arg(
        long,
        env = "IMP_ENVOY_ADMIN",
        default_value = "off",
        value_name = "off|unix:PATH|ADDR:PORT"
    )]
    pub envoy_admin: EnvoyAdmin,
    /// How routes are sent to Envoy.
    #[arg(long, env = "IMP_LAYOUT", value_enum, default_value_t = Layout::Scoped)]
    pub layout: Layout,
    /// What decides about calls. The module needs Envoy 1.40 on this machine as the agent's user; if
    /// any Envoy cannot have it, all of this agent ask the agent instead.
    #[arg(long, env = "IMP_DOOR", value_enum, default_value_t = Door::ExtAuthz)]
    pub door: Door,
    /// The library of the module, for --door module.
    #[arg(long, env = "IMP_MODULE", value_name = "FILE")]
    pub module: Option<PathBuf>,
    #[command(flatten)]
    pub kube: KubeFlags,
    #[command(flatten)]
    pub gateway_api: GatewayApiFlags,
    /// The format of log lines; RUST_LOG sets the level.
    #[arg(long, env = "IMP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Export spans to this OpenTelemetry collector over gRPC, such as http://collector:4317.
    /// [default: spans appear in log lines only]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// How routes are sent to Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    /// One scope per host, each updated separately.
    Scoped,
    /// The same, without tables that hosts with equal routes share; a comparison in the benchmarks.
    InlineScopes,
    /// One table per gateway, sent whole on each change; the comparison in the benchmarks.
    WholeRds,
}

/// What decides about calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Door {
    /// Envoy asks the agent about each call.
    ExtAuthz,
    /// A module inside Envoy.
    Module,
}

/// Options of `module`.
#[derive(Clone, Debug, Args)]
pub struct Module {
    /// The library.
    #[arg(long, env = "IMP_MODULE", value_name = "FILE")]
    pub module: PathBuf,
}

/// Options of `bootstrap`.
#[derive(Clone, Debug, Args)]
pub struct Bootstrap {
    /// The agent's address [default: xds.sock in the state directory].
    #[arg(long, env = "IMP_XDS_LISTEN", value_name = "unix:PATH|ADDR:PORT")]
    pub xds_listen: Option<Address>,
    /// Another agent of the same cluster on this machine, to fail over to. It has its own identity,
    /// state directory and socket. May be given several times.
    #[arg(long, env = "IMP_OTHER_AGENTS", value_delimiter = ',', value_name = "unix:PATH")]
    pub other_agent: Vec<Address>,
    /// The agent's state directory.
    #[arg(long, env = "IMP_STATE_DIR", default_value = "./imp-agent-state", value_name = "DIR")]
    pub state_dir: PathBuf,
    /// The output directory of node-certificate, as Envoy sees it: required for a TCP port.
    #[arg(long, env = "IMP_NODE_CERTIFICATE", value_name = "DIR")]
    pub node_certificate: Option<PathBuf>,
    /// The address of Envoy's admin interface. It has no authentication and can stop Envoy: a Unix
    /// socket (mode 0600), relative to Envoy's working directory, or a loopback address.
    #[arg(
        long,
        env = "IMP_ENVOY_ADMIN",
        default_value = "unix:envoy-admin.sock",
        value_name = "off|unix:PATH|ADDR:PORT"
    )]
    pub envoy_admin: EnvoyAdmin,
    /// Envoy's name in status and logs [default: envoy-HOSTNAME].
    #[arg(long, env = "IMP_NODE_ID", value_name = "NAME")]
    pub node_id: Option<String>,
    /// The one gateway that this Envoy serves [default: all of the cluster].
    #[arg(long, env = "IMP_GATEWAY_ID", value_name = "UUID")]
    pub gateway_id: Option<uuid::Uuid>,
    /// MiB of memory above which Envoy refuses calls, so that it is not killed.
    #[arg(long, env = "IMP_ENVOY_MAX_HEAP_MIB", default_value_t = 2048, value_name = "MIB")]
    pub max_heap_mib: u64,
    /// The most connections of callers to this Envoy.
    #[arg(long, env = "IMP_ENVOY_MAX_CONNECTIONS", default_value_t = 50_000, value_name = "N")]
    pub max_connections: u64,
}

/// Options of `accept-shrink`.
#[derive(Clone, Debug, Args)]
pub struct AcceptShrink {
    /// The number of gateways and publishes that are held back [default: none; prints the number].
    #[arg(long, value_name = "N")]
    pub removals: Option<usize>,
    /// The address of the agent's admin port.
    #[arg(
        long,
        env = "IMP_ADMIN_LISTEN",
        default_value = "127.0.0.1:18001",
        value_name = "ADDR:PORT"
    )]
    pub admin_listen: String,
}

/// One gateway, or all of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateways(pub Option<uuid::Uuid>);

impl std::str::FromStr for Gateways {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            ALL_GATEWAYS => Ok(Self(None)),
            id => uuid::Uuid::try_parse(id)
                .map(|id| Self(Some(id)))
                .map_err(|_| "the UUID of a gateway, or all".to_owned()),
        }
    }
}

/// Options of `node-certificate`.
#[derive(Clone, Debug, Args)]
pub struct NodeCertificate {
    /// The one gateway that this Envoy may serve, or all of the cluster.
    #[arg(long, value_name = "UUID|all")]
    pub gateway: Gateways,
    /// Envoy's node id, as in the bootstrap.
    #[arg(long, value_name = "NAME")]
    pub node_id: String,
    /// Days of validity. Connected Envoys stay connected when it ends.
    #[arg(long, default_value_t = 365, value_name = "DAYS")]
    pub days: u32,
    /// The directory for node.pem, node.key, ca.pem and sds.yaml; Envoy reloads renewed files
    /// without a restart.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The agent's state directory, with its authority's key.
    #[arg(long, env = "IMP_STATE_DIR", default_value = "./imp-agent-state", value_name = "DIR")]
    pub state_dir: PathBuf,
}

impl Config {
    /// The address that Envoys connect to.
    pub fn xds(&self) -> Address {
        Address::or_default(self.xds_listen.as_ref(), &self.state_dir)
    }

    /// A configuration for tests: free ports and a state directory of their own.
    pub fn in_process(control: &str, state_dir: &Path) -> Self {
        Self {
            control: control.to_owned(),
            control_ca: None,
            insecure: false,
            registration_token: None,
            xds_listen: None,
            envoy_uid: vec![],
            admin_listen: "127.0.0.1:0".to_owned(),
            state_dir: state_dir.to_owned(),
            bind_address: std::net::Ipv4Addr::LOCALHOST.into(),
            allow_upstream: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
            deny_upstream: vec![],
            upstream_dns: vec![],
            upstream_ca_file: None,
            envoy_admin: EnvoyAdmin::Off,
            layout: Layout::Scoped,
            door: Door::ExtAuthz,
            module: None,
            kube: KubeFlags::default(),
            gateway_api: GatewayApiFlags::default(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
        }
    }
}

/// The machine's name, for display.
pub fn hostname() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let named = [kernel.trim().to_owned(), std::env::var("HOSTNAME").unwrap_or_default()];
    named.into_iter().find(|name| !name.is_empty()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_names_every_variable_and_hides_the_token() {
        let mut command = Cli::command();
        let help = command.render_long_help().to_string();
        for name in ["IMP_CONTROL", "IMP_REGISTRATION_TOKEN", "IMP_XDS_LISTEN", "IMP_STATE_DIR"] {
            assert!(help.contains(name), "{help}");
        }
    }
}
