//! The running program: build, bind both ports, serve until told to stop.

pub mod accept_restore;
pub mod bootstrap;
mod ports;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use imp_core::hostname::SharedDomains;
use imp_core::port::ReservedPorts;
use imp_core::upstream::UpstreamPolicy;
use imp_process::directory;
use imp_process::file::FileFault;
use imp_store::Store;
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use ports::{Port, Wanted};

use crate::admission::Admission;
use crate::compile::{ClusterResources, Tailer};
use crate::config::{AdminToken, ClaimFlags, Config};
use crate::dns::Dns;
use crate::hub::Hub;
use crate::hub::identity::AgentKey;
use crate::hub::presence::Duplicates;
use crate::jobs::Worker;
use crate::listen::{self, Limits, Plain};
use crate::operation::Operation;
use crate::readiness::Readiness;
use crate::rest;
use crate::state::{ClaimRules, Clock, State};

/// An error at start-up; each prints as one line.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot listen on {address} ({flag}): {why}. Choose another port or stop what uses it")]
    Listen { address: String, flag: &'static str, why: std::io::Error },
    #[error("cannot use the data directory {path} (--data-dir): {why}")]
    DataDir { path: String, why: std::io::Error },
    #[error(
        "{flag} {address} can be reached from elsewhere, and there is no TLS: give --tls-cert and \
         --tls-key, or --insecure if something in front of it does TLS"
    )]
    Exposed { address: String, flag: &'static str },
    #[error("no TLS on the port of {flag} (--tls-cert, --tls-key): {why}")]
    Tls { flag: &'static str, why: String },
    #[error("cannot open the database {url}: {why}. See --data-dir and DATABASE_URL")]
    Database { url: String, why: String },
    #[error("--allow-upstream: {0}")]
    AllowUpstream(String),
    #[error("--shared-domains: {0}")]
    SharedDomains(String),
    #[error("--reserved-ports: {0}")]
    ReservedPorts(String),
    #[error("cannot write the bootstrap token to {path}: {why}")]
    TokenFile { path: String, why: std::io::Error },
    #[error("--agent-key-file: {0}")]
    AgentKey(FileFault),
}

/// A started control plane.
pub struct Running {
    /// The address of the REST API.
    pub rest_addr: SocketAddr,
    /// The address that agents connect to.
    pub agent_addr: SocketAddr,
    /// The system-admin's token, on the first start only.
    pub admin_token: Option<String>,
    /// The database, for in-process tests and benchmarks.
    pub store: Store,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// Starts control planes.
pub struct App;

impl App {
    pub async fn start(config: Config) -> Result<Running, StartError> {
        Self::start_at(config, Clock::system()).await
    }

    /// Starts with the given clock.
    pub async fn start_at(config: Config, clock: Clock) -> Result<Running, StartError> {
        imp_process::metrics::install();
        let entries = config.allow_upstream.iter().map(String::as_str);
        let upstreams = UpstreamPolicy::parse(entries)
            .map_err(|fault| StartError::AllowUpstream(fault.detail))?;
        let claims = claim_rules(&config.claims)?;
        let rest = Port::open(Wanted {
            address: &config.listen,
            flag: "--listen",
            tls: config.tls(),
            protocols: &["h2", "http/1.1"],
            insecure: config.insecure,
        })
        .await?;
        let agents = Port::open(Wanted {
            address: &config.agent_listen,
            flag: "--agent-listen",
            tls: config.agent_tls(),
            protocols: &["h2"],
            insecure: config.insecure,
        })
        .await?;
        let store = open(&config).await?;
        let key = agent_key(&config)?;
        let admin_token =
            bootstrap::first_token(&at_machine(&store, clock.clone()), &config).await?;
        let cancel = CancellationToken::new();
        let admission = Admission::new(config.rest_rates());
        let state = State {
            store: store.clone(),
            clock,
            admission,
            upstreams: Arc::new(upstreams),
            readiness: Readiness::default(),
            claims: Arc::new(claims),
            dns: Dns::new(config.claims.dns_server),
        };
        let (rest_addr, agent_addr) = (rest.address, agents.address);
        let mut tasks = follow_certificates([&rest, &agents], &cancel);
        tasks.extend(start_hub(key, &state, agents, config.duplicate_agents, &cancel));
        tasks.push(tokio::spawn(serve(rest, state, cancel.clone())));
        tracing::info!(%rest_addr, %agent_addr, "listening");
        Ok(Running { rest_addr, agent_addr, admin_token, store, cancel, tasks })
    }
}

impl Running {
    /// Asks every task to stop; open requests are finished.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Returns once something has requested a stop.
    pub async fn stopped(&self) {
        self.cancel.cancelled().await;
    }

    /// Stops and waits.
    pub async fn shutdown(mut self) {
        self.cancel.cancel();
        self.wait().await;
    }

    /// Waits until every task has stopped.
    pub async fn wait(&mut self) {
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task ended badly");
            }
        }
    }
}

/// Starts the agents' side: the tailer, the port and periodic tasks.
fn start_hub(
    key: AgentKey,
    state: &State,
    port: Port,
    duplicates: Duplicates,
    stop: &CancellationToken,
) -> Vec<JoinHandle<()>> {
    let platform = Operation::of_platform(state);
    let (store, worker) = (platform.store.clone(), Worker::new(platform.clone()));
    let cluster_resources = ClusterResources::default();
    let hub = Hub::start(platform, key, cluster_resources.clone(), duplicates, stop.clone());
    let tailer = Tailer::new(store, cluster_resources, hub.watcher());
    vec![
        tokio::spawn(hub.serve(port.listener, port.tls, Limits::agents())),
        tokio::spawn(tailer.run(stop.clone())),
        tokio::spawn(worker.run(stop.clone())),
        tokio::spawn(imp_process::metrics::sum_up(stop.clone().cancelled_owned())),
    ]
}

/// An upper limit that keeps sums of times within the calendar's range.
const LONGEST_COOLDOWN: Duration = Duration::from_secs(3650 * 24 * 3600);

fn claim_rules(flags: &ClaimFlags) -> Result<ClaimRules, StartError> {
    let shared = SharedDomains::parse(flags.shared_domains.iter().map(String::as_str));
    let ports = ReservedPorts::parse(flags.reserved_ports.iter().map(String::as_str));
    Ok(ClaimRules {
        shared_domains: shared.map_err(|fault| StartError::SharedDomains(fault.detail))?,
        hostname_cooldown: TimeDelta::from_std(flags.hostname_cooldown.min(LONGEST_COOLDOWN))
            .unwrap_or_default(),
        share_ports: flags.share_ports,
        reserved_ports: ports.map_err(|fault| StartError::ReservedPorts(fault.detail))?,
    })
}

/// Reloads certificates when their files change.
fn follow_certificates(ports: [&Port; 2], stop: &CancellationToken) -> Vec<JoinHandle<()>> {
    let tls = ports.into_iter().filter_map(|port| port.tls.clone());
    tls.map(|tls| tokio::spawn(tls.follow(stop.clone()))).collect()
}

/// Creates another system-admin token in an existing database.
pub async fn admin_token(options: &AdminToken) -> Result<String, StartError> {
    let url = options.url();
    let missing = url.strip_prefix("sqlite://").is_some_and(|path| !Path::new(path).exists());
    let failed = |why: String| StartError::Database { url: without_password(&url), why };
    if missing {
        return Err(failed("there is none; start imp-control once".to_owned()));
    }
    let store = Store::open(&url).await.map_err(|why| failed(why.to_string()))?;
    let operation = at_machine(&store, Clock::system());
    let token = bootstrap::another_token(&operation, options.token_file.as_deref()).await;
    store.close().await;
    token
}

/// Accepts the restored database and returns its new epoch.
pub async fn accept_restore(config: &Config) -> Result<i64, StartError> {
    let store = open(config).await?;
    let accepted = accept_restore::accept_restore(&at_machine(&store, Clock::system())).await;
    store.close().await;
    let url = without_password(&config.url());
    accepted.map_err(|why| StartError::Database { url, why: why.to_string() })
}

fn at_machine(store: &Store, clock: Clock) -> Operation {
    Operation::of_bootstrap(store.clone(), clock)
}

/// Opens the configured database.
async fn open(config: &Config) -> Result<Store, StartError> {
    let path = || config.data_dir.display().to_string();
    directory::prepare(&config.data_dir)
        .map_err(|why| StartError::DataDir { path: path(), why })?;
    let url = config.url();
    Store::open(&url)
        .await
        .map_err(|why| StartError::Database { url: without_password(&url), why: why.to_string() })
}

fn agent_key(config: &Config) -> Result<AgentKey, StartError> {
    AgentKey::open(&config.agent_key_path()).map_err(StartError::AgentKey)
}

/// `postgres://user:secret@host/db` -> `postgres://user:***@host/db`.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let name = user.split(':').next().unwrap_or_default();
    format!("{scheme}://{name}:***@{host}")
}

async fn serve(port: Port, state: State, cancel: CancellationToken) {
    let (listener, router, limits) = (port.listener, rest::router(state), Limits::rest());
    match port.tls {
        Some(tls) => listen::serve(listener, tls, limits, router, cancel.clone()).await,
        None => listen::serve(listener, Plain, limits, router, cancel.clone()).await,
    }
    cancel.cancel();
}
