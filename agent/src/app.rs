//! The running agent: restores the state on disk, binds both ports, serves, follows the control
//! plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imp_enforce::Engine;
use imp_grammar::caps::{NODE_CALL_TIME, NODE_CALLS};
use imp_process::directory;
use imp_translate::{Door, Layout, Options};
use imp_xds::KeepAlive;
use thiserror::Error;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin};
use crate::attach::{AttachError, Attaching};
use crate::bootstrap::AGENT_CLUSTER;
use crate::config::{self, Config};
use crate::ext_authz::ExtAuthz;
use crate::fleet::{Doors, Fleet};
use crate::gateway_api::{GatewayApi, GatewayApiError};
use crate::identity::IdentityFile;
use crate::ledger::Ledger;
use crate::link::{self, EndpointError, HeldResources, Link, LinkError, LinkState, Seen};
use crate::lkg::{Lkg, Loaded, OpenError};
use crate::module::{self, Counted, Directory, Feed, Installed, ModuleError};
use crate::port::{Address, Bounded, Port, PortError};
use crate::upstreams::{self, UpstreamsError};
use crate::usage::{self, Usage};

/// An error that stops the agent or its start; each prints as one line.
#[derive(Debug, Error)]
pub enum AppError {
    /// A port cannot be bound.
    #[error("cannot listen on {address} ({flag}): {why}. Choose another port or stop what uses it")]
    Listen {
        /// The address as configured.
        address: String,
        /// The flag that set it.
        flag: &'static str,
        why: std::io::Error,
    },
    /// The port to Envoys cannot be served.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The admin port is not on loopback.
    #[error("--admin-listen {0}: only a loopback address; it has no authentication")]
    AdminInTheOpen(SocketAddr),
    /// The state directory cannot be used.
    #[error("cannot use the state directory {path} (--state-dir): {why}")]
    StateDir {
        /// The path as configured.
        path: String,
        why: std::io::Error,
    },
    /// The last-known-good cannot be opened.
    #[error(transparent)]
    Lkg(#[from] OpenError),
    /// The module cannot decide about calls.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// The socket for modules cannot be served.
    #[error("cannot listen on {path}, the module's socket in --state-dir: {why}")]
    Feed { path: String, why: std::io::Error },
    /// An upstream flag is invalid.
    #[error(transparent)]
    Upstreams(#[from] UpstreamsError),
    /// Nothing can be delivered by Gateway API.
    #[error(transparent)]
    GatewayApi(#[from] GatewayApiError),
    /// Gateways cannot be attached to what Kubernetes has.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The control plane's address is invalid.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The link to the control plane cannot go on.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A task failed; the agent should be restarted.
    #[error("a part of the agent ended, see the log; start it again, it serves from its state")]
    Broken,
}

/// Starts agents.
pub struct App;

/// A started agent.
pub struct Running {
    /// The address that Envoys connect to.
    pub xds: Address,
    /// The address of the operator's port.
    pub admin_addr: SocketAddr,
    pub fleet: Fleet,
    /// The state of the link to the control plane.
    pub link_state: watch::Receiver<LinkState>,
    lkg: Lkg,
    cancel: CancellationToken,
    link: JoinHandle<Result<(), LinkError>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How long a stop waits for calls that are being decided.
const GRACE: Duration = Duration::from_millis(250);

impl App {
    /// Starts the agent. When this returns it serves what is on disk, and connects to the control
    /// plane in the background.
    pub async fn start(config: Config) -> Result<Running, AppError> {
        imp_process::metrics::install();
        let operator = bind(&config.admin_listen, "--admin-listen").await?;
        let admin_addr = address(&operator)?;
        if !admin_addr.ip().is_loopback() {
            return Err(AppError::AdminInTheOpen(admin_addr));
        }
        let channel =
            link::channel(&config.control, config.control_ca.as_deref(), config.insecure)?;
        let file = state(&config)?;
        let port = Port::bind(&config.xds(), &config.envoy_uid, &config.state_dir).await?;
        let xds = port.address().clone();
        let identity = file.load().map_err(|why| why.to_string());
        let cancel = CancellationToken::new();
        let inside = Inside::of(&config)?;
        let options = options(&config, &own_ports(&xds, admin_addr), inside.door()).await?;
        let upstreams = options.upstreams.clone();
        let attaching = Attaching::of(&config, &options)?;
        let opened = open(&config, options, &inside, &cancel)?;
        let Opened { engine, fleet, lkg, ledger, usage, seen, loaded, modules } = opened;
        let gateway_api = GatewayApi::of(&config, &file, &upstreams, &fleet)?;
        // From here on calls are decided, and Envoys that have their configuration continue.
        let envoys = tokio::spawn(serve_envoys(port, engine, fleet.clone(), cancel.clone()));
        let held_resources = Arc::new(restore(fleet.clone(), lkg.clone(), loaded).await?);
        let (state, link_state) = watch::channel(match identity {
            Ok(Some(_)) => LinkState::Disconnected,
            Ok(None) => LinkState::Registering,
            Err(_) => LinkState::IdentityDamaged,
        });
        let admin = Admin {
            file: file.clone(),
            control: config.control.clone(),
            xds: xds.clone(),
            link: link_state.clone(),
            fleet: fleet.clone(),
            held_resources: held_resources.clone(),
            lkg: lkg.clone(),
            ledger: ledger.clone(),
        };
        let modules = modules.map(|(socket, feed)| module::serve(socket, feed, cancel.clone()));
        let mut tasks = vec![
            envoys,
            tokio::spawn(serve_operator(operator, admin, cancel.clone())),
            tokio::spawn(usage::keep(usage.clone(), cancel.clone())),
            tokio::spawn(imp_process::metrics::sum_up(cancel.clone().cancelled_owned())),
        ];
        tasks.extend(modules.map(tokio::spawn));
        if let Some(gateway_api) = gateway_api {
            tasks.push(tokio::spawn(gateway_api.start(fleet.clone(), cancel.clone()).await?));
        }
        if let Some(attaching) = attaching {
            tasks.push(tokio::spawn(attaching.start(fleet.clone(), cancel.clone()).await?));
        }
        let link = Link {
            channel,
            control: config.control,
            token: config.registration_token,
            file,
            identity,
            held_resources,
            fleet: fleet.clone(),
            usage,
            seen,
            state,
        };
        let link = tokio::spawn(link.run(cancel.clone()));
        tracing::info!(%xds, %admin_addr, ready = fleet.is_open(), "listening");
        Ok(Running { xds, admin_addr, fleet, link_state, lkg, cancel, link, tasks })
    }
}

impl Running {
    /// Returns when the agent cannot continue.
    pub async fn ended(&mut self) -> AppError {
        let ended = tokio::select! {
            () = self.cancel.cancelled() => return AppError::Broken,
            ended = &mut self.link => ended,
        };
        match ended {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) => AppError::Broken,
            Err(error) => {
                tracing::error!(%error, "the link ended badly");
                AppError::Broken
            }
        }
    }

    /// Stops everything and writes the state to disk.
    pub async fn shutdown(mut self) {
        self.cancel.cancel();
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task ended badly");
            }
        }
        if !self.link.is_finished() {
            self.link.abort();
        }
        if !self.lkg.flush().await {
            tracing::error!("the state on disk is older than what was served");
        }
        self.lkg.close();
    }
}

/// What the start reads from the state directory first.
struct Opened {
    engine: Engine,
    fleet: Fleet,
    lkg: Lkg,
    ledger: Ledger,
    usage: Usage,
    seen: Seen,
    loaded: Loaded,
    /// The socket for modules, and what they hear there.
    modules: Option<(UnixListener, Feed)>,
}

/// The module inside Envoys.
struct Inside {
    directory: Directory,
    /// Or why not; `None` if nobody wants it.
    installed: Result<Installed, Option<String>>,
}

impl Inside {
    fn of(config: &Config) -> Result<Self, ModuleError> {
        let directory = Directory::within(&config.state_dir);
        let install = || {
            Installed::suits(&config.xds(), &config.envoy_uid)?;
            Installed::new(config.module.as_deref(), directory.clone())
        };
        let installed = match config.door {
            config::Door::ExtAuthz => Err(None),
            config::Door::Module => Ok(install()?),
            config::Door::Auto => install().map_err(|error| Some(error.to_string())),
        };
        match &installed {
            Ok(module) => {
                tracing::info!(file = %module.file().path.display(), "Envoys can have the module");
            }
            Err(Some(why)) => tracing::warn!(why, "Envoys ask the agent about each call"),
            Err(None) => {}
        }
        Ok(Self { directory, installed })
    }

    /// What is rendered. Routes stay as they were, for Envoys that have the module.
    fn door(&self) -> Door {
        match &self.installed {
            Ok(module) => Door::Module(module.rendered()),
            Err(_) if self.directory.exists() => Door::AfterModule,
            Err(_) => Door::ExtAuthz,
        }
    }

    fn doors(&self) -> Doors {
        match &self.installed {
            Ok(module) => Doors::with(module.clone()),
            Err(why) => Doors::without(why.clone()),
        }
    }
}

/// The TCP ports of this agent.
fn own_ports(xds: &Address, admin: SocketAddr) -> Vec<SocketAddr> {
    match xds {
        Address::Unix(_) => vec![admin],
        Address::Tcp(xds) => vec![admin, *xds],
    }
}

/// The options for Envoys; `own` are the agent's own ports.
async fn options(config: &Config, own: &[SocketAddr], door: Door) -> Result<Options, AppError> {
    Ok(Options {
        bind_address: config.bind_address.to_string(),
        layout: match config.layout {
            // An Envoy with a stream for each type asks for tables on another one than for scopes.
            config::Layout::Scoped if config.kube.attaches() => Layout::InlineScopes,
            config::Layout::Scoped => Layout::ScopedRoutes,
            config::Layout::InlineScopes => Layout::InlineScopes,
            config::Layout::WholeRds => Layout::WholeRds,
        },
        agent_cluster: AGENT_CLUSTER.to_owned(),
        upstreams: upstreams::upstreams(config, own).await?,
        door,
        tells_hosts: config.kube.attaches(),
    })
}

fn open(
    config: &Config,
    options: Options,
    inside: &Inside,
    cancel: &CancellationToken,
) -> Result<Opened, AppError> {
    let (lkg, loaded) = Lkg::open(&config.state_dir)?;
    // After the lock on the other file was taken, so that two agents never count in one.
    let (ledger, kept) = Ledger::open(&config.state_dir);
    let engine = Engine::kept_in(Arc::new(ledger.clone()));
    let mut usage = Usage::restore(engine.clone(), ledger.clone(), kept);
    let mut modules = None;
    let places = &inside.directory;
    if places.exists() {
        // What former modules have counted is reported, too.
        let feed = Feed::new(places.snapshot());
        let path = places.socket();
        let failed = |why| AppError::Feed { path: path.display().to_string(), why };
        usage = usage.with_modules(Counted::new(places.counters(), places.owner(), feed.clone()));
        if inside.installed.is_ok() {
            modules = Some((module::bind(&path).map_err(failed)?, feed));
        }
    }
    let feed = modules.as_ref().map(|(_, feed)| feed.clone());
    let inside = (feed, inside.doors());
    let fleet = Fleet::feeding(options, engine.clone(), lkg.clone(), inside, cancel.clone());
    let seen = Seen::restore(lkg.clone(), &loaded);
    Ok(Opened { engine, fleet, lkg, ledger, usage, seen, loaded, modules })
}

/// Runs off the threads that answer calls, because rendering a large state takes a while.
async fn restore(fleet: Fleet, lkg: Lkg, mut loaded: Loaded) -> Result<HeldResources, AppError> {
    let restored = tokio::task::spawn_blocking(move || {
        let started = std::time::Instant::now();
        let complete = HeldResources::was_complete(&loaded);
        let whole = fleet.restore_access(&mut loaded);
        if complete {
            fleet.decide();
            tracing::info!(took = ?started.elapsed(), "calls are decided");
        }
        let restored = fleet.restore(whole, &mut loaded);
        if complete {
            fleet.open();
            tracing::info!(resources = restored.len(), took = ?started.elapsed(), "serving the last-known-good");
        }
        HeldResources::new(fleet, lkg, restored, complete)
    });
    restored.await.map_err(|error| {
        tracing::error!(%error, "the last-known-good could not be taken");
        AppError::Broken
    })
}

fn state(config: &Config) -> Result<IdentityFile, AppError> {
    let failed = |why| AppError::StateDir { path: config.state_dir.display().to_string(), why };
    directory::prepare(&config.state_dir).map_err(failed)?;
    Ok(IdentityFile::within(&config.state_dir))
}

async fn bind(address: &str, flag: &'static str) -> Result<TcpListener, AppError> {
    let failed = |why| AppError::Listen { address: address.to_owned(), flag, why };
    TcpListener::bind(address).await.map_err(failed)
}

fn address(listener: &TcpListener) -> Result<SocketAddr, AppError> {
    let failed = |why| AppError::Listen { address: String::new(), flag: "--admin-listen", why };
    listener.local_addr().map_err(failed)
}

/// What an Envoy asks for apart whose aggregated stream is somebody else's (`envoy_gateway`).
const OF_TYPES: [&str; 4] = [
    "envoy.service.cluster.v3.ClusterDiscoveryService",
    "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
    "envoy.service.route.v3.RouteDiscoveryService",
    "envoy.service.route.v3.ScopedRoutesDiscoveryService",
];

async fn serve_envoys(port: Port, engine: Engine, fleet: Fleet, cancel: CancellationToken) {
    let ads = fleet.ads();
    let incoming = port.serve(cancel.clone());
    let alive = KeepAlive { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) };
    let server = alive
        .on_server(tonic::transport::Server::builder())
        // Each call in flight is a stream, and callers that disconnect reset theirs.
        .http2_max_pending_accept_reset_streams(Some(NODE_CALLS.size()))
        .max_concurrent_streams(u32::try_from(NODE_CALLS.value).ok())
        // Streams have limits of their own.
        .timeout(NODE_CALL_TIME.time())
        .add_routes(ads.routes(&OF_TYPES))
        .add_service(Bounded(ExtAuthz::service(engine, fleet)))
        .serve_with_incoming_shutdown(incoming, cancel.clone().cancelled_owned());
    let stopping = async {
        cancel.cancelled().await;
        ads.close();
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(%error, "the xDS server stopped");
        },
        () = stopping => {}
    }
    cancel.cancel();
}

async fn serve_operator(listener: TcpListener, admin: Admin, cancel: CancellationToken) {
    let server = axum::serve(listener, admin::router(admin)).into_future();
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(%error, "the admin port stopped");
        },
        () = cancel.cancelled() => {}
    }
    cancel.cancel();
}
