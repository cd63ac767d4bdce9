//! The configuration. Every flag is also an environment variable.

mod claims;

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};
use imp_process::log::LogFormat;

pub use claims::ClaimFlags;

use crate::admission::RestRates;
use crate::hub::presence::Duplicates;
use crate::tls::Files;

/// The control plane of Imp-Gateway.
#[derive(Debug, Parser)]
#[command(name = "imp-control", version, about)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the REST API and the agents (the default).
    Serve(Box<Config>),
    /// Make another system-admin's token, for when all are lost. Needs no token, only the database.
    AdminToken(AdminToken),
    /// Accept a database that was restored from a backup, and exit: agents that have seen a later
    /// state take this one. First revoke again what was revoked since the backup.
    AcceptRestore(Box<Config>),
    /// Print the OpenAPI document and exit.
    Openapi,
}

/// The database, and where to write the token.
#[derive(Clone, Debug, Args)]
pub struct AdminToken {
    /// The directory of the SQLite database.
    #[arg(long, env = "IMP_DATA_DIR", default_value = "./imp-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// postgres://... instead of the SQLite file in the data directory.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Write the token to this file (mode 0600) instead of to standard output.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Options of `serve`.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// The address of the REST API.
    #[arg(long, env = "IMP_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
    pub listen: String,
    /// The address that agents connect to.
    #[arg(
        long,
        env = "IMP_AGENT_LISTEN",
        default_value = "127.0.0.1:8081",
        value_name = "ADDR:PORT"
    )]
    pub agent_listen: String,
    /// The certificate (PEM, chain) of the REST port, and of the agents' port unless that has its
    /// own. Reloaded when it changes.
    #[arg(long, env = "IMP_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key (PEM) of the REST port's certificate.
    #[arg(long, env = "IMP_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// The certificate (PEM, chain) of the agents' port.
    #[arg(long, env = "IMP_AGENT_TLS_CERT", value_name = "FILE", requires = "agent_tls_key")]
    pub agent_tls_cert: Option<PathBuf>,
    /// The private key (PEM) of the agents' port's certificate.
    #[arg(long, env = "IMP_AGENT_TLS_KEY", value_name = "FILE", requires = "agent_tls_cert")]
    pub agent_tls_key: Option<PathBuf>,
    /// Listen on non-loopback addresses without TLS. Only for deployments with a TLS proxy in
    /// front: otherwise tokens cross the network in clear text.
    #[arg(long, env = "IMP_INSECURE")]
    pub insecure: bool,
    /// What happens to a second process that uses an agent's identity while the first is connected.
    /// In either case it is logged, counted (imp_agent_duplicate_streams_total) and shown on the
    /// agent (duplicate_seen_at).
    #[arg(long, env = "IMP_DUPLICATE_AGENTS", value_enum, default_value_t = Duplicates::Allow)]
    pub duplicate_agents: Duplicates,
    /// The directory of the SQLite database and the keys; created when missing.
    #[arg(long, env = "IMP_DATA_DIR", default_value = "./imp-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// The secret that agents' tokens are signed with: 64 hexadecimal digits, created when missing.
    /// Replicas share it. [default: agent-key in the data directory]
    #[arg(long, env = "IMP_AGENT_KEY_FILE", value_name = "FILE")]
    pub agent_key_file: Option<PathBuf>,
    /// postgres://... instead of the SQLite file in the data directory.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// Addresses, networks and names that backends may use although they are not public.
    #[arg(long, env = "IMP_ALLOW_UPSTREAMS", value_delimiter = ',', value_name = "HOST|CIDR,..")]
    pub allow_upstream: Vec<String>,
    #[command(flatten)]
    pub claims: ClaimFlags,
    /// Write the first start's admin token to this file (mode 0600) instead of to standard output.
    #[arg(long, env = "IMP_BOOTSTRAP_TOKEN_FILE", value_name = "FILE")]
    pub bootstrap_token_file: Option<PathBuf>,
    /// Requests per second per API token; bursts of twice that.
    #[arg(long, env = "IMP_TOKEN_RATE", default_value_t = RestRates::default().token, value_name = "N")]
    pub token_rate: u32,
    /// Requests per second per tenant, over all its API tokens; bursts of twice that.
    #[arg(long, env = "IMP_TENANT_RATE", default_value_t = RestRates::default().tenant, value_name = "N")]
    pub tenant_rate: u32,
    /// The format of log lines; RUST_LOG sets the level.
    #[arg(long, env = "IMP_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Export spans to this OpenTelemetry collector over gRPC, such as http://collector:4317.
    /// [default: spans appear in log lines only]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

impl Config {
    /// A configuration for tests and benchmarks: free ports and a data directory of their own.
    pub fn in_process(data_dir: &Path) -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            agent_listen: "127.0.0.1:0".to_owned(),
            tls_cert: None,
            tls_key: None,
            agent_tls_cert: None,
            agent_tls_key: None,
            insecure: false,
            duplicate_agents: Duplicates::Allow,
            data_dir: data_dir.to_owned(),
            agent_key_file: None,
            database_url: None,
            allow_upstream: vec![
                "127.0.0.0/8".to_owned(),
                "::1".to_owned(),
                "localhost".to_owned(),
            ],
            claims: ClaimFlags::in_process(),
            bootstrap_token_file: None,
            // Tests of rates set their own.
            token_rate: 1_000_000,
            tenant_rate: 1_000_000,
            log_format: LogFormat::Text,
            otlp_endpoint: None,
        }
    }

    /// The request rates.
    pub fn rest_rates(&self) -> RestRates {
        RestRates { token: self.token_rate, tenant: self.tenant_rate }
    }

    /// The path of the agents' signing key: the given file, or the one in the data directory.
    pub fn agent_key_path(&self) -> PathBuf {
        self.agent_key_file.clone().unwrap_or_else(|| self.data_dir.join("agent-key"))
    }

    /// The certificate of the REST port; `None` without TLS.
    pub fn tls(&self) -> Option<Files> {
        files(&self.tls_cert, &self.tls_key)
    }

    /// The certificate of the agents' port; `None` without TLS.
    pub fn agent_tls(&self) -> Option<Files> {
        files(&self.agent_tls_cert, &self.agent_tls_key).or_else(|| self.tls())
    }

    /// The database URL: the given one, or the file in the data directory.
    pub fn url(&self) -> String {
        url(&self.data_dir, self.database_url.as_deref())
    }
}

impl AdminToken {
    /// The database URL: the given one, or the file in the data directory.
    pub fn url(&self) -> String {
        url(&self.data_dir, self.database_url.as_deref())
    }
}

fn url(data_dir: &Path, database_url: Option<&str>) -> String {
    let file = || format!("sqlite://{}", data_dir.join("imp.db").display());
    database_url.map_or_else(file, str::to_owned)
}

fn files(cert: &Option<PathBuf>, key: &Option<PathBuf>) -> Option<Files> {
    cert.clone().zip(key.clone()).map(|(cert, key)| Files { cert, key })
}
