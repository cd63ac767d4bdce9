//! Control plane, agent, Envoy and upstream as real processes on loopback.

mod agent;
mod control;
mod envoy;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

pub use self::agent::Agent;
pub use self::control::Control;
pub use self::envoy::{Envoy, EnvoyAdmin, binary as envoy_binary};
use crate::process::eventually;
use crate::rest::{Rest, text};
use crate::upstream::Upstream;

/// The agent's cluster in the printed bootstrap.
pub const AGENT_CLUSTER: &str = "agent";

/// Long enough for a busy two-core machine; nothing waits this long normally.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The options of a stack.
#[derive(Clone, Debug)]
pub struct Options {
    /// postgres://... instead of SQLite.
    pub database_url: Option<String>,
    /// Networks that the agent allows calls to, although they are not public.
    pub allow: Vec<String>,
    /// More flags for the control plane.
    pub control_flags: Vec<String>,
    /// More flags for the agent.
    pub agent_flags: Vec<String>,
    /// Envoy's worker threads.
    pub workers: u32,
    /// Whether to start an Envoy at once.
    pub envoy: bool,
}

impl Default for Options {
    fn default() -> Self {
        let allow = vec!["127.0.0.0/8".to_owned(), "::1".to_owned()];
        // Tests and benchmarks measure the work, not the rate limits.
        let rates = ["--token-rate=1000000", "--tenant-rate=1000000"];
        Self {
            database_url: None,
            allow,
            control_flags: rates.map(str::to_owned).into(),
            agent_flags: vec![],
            workers: 1,
            envoy: true,
        }
    }
}

impl Options {
    /// Without the module: Envoy asks the agent about each call.
    pub fn asking() -> Self {
        Self { agent_flags: vec!["--door=ext-authz".to_owned()], ..Self::default() }
    }

    /// The agent's flags. It cannot know where the REST API is, and the module that cargo builds has not
    /// the name of a release's.
    fn flags(&self, control: &Control) -> Result<Vec<String>> {
        let allow = self.allow.iter().map(|net| format!("--allow-upstream={net}"));
        let rest = format!("--deny-upstream={}", control.listen);
        let mut flags: Vec<_> = allow.chain([rest]).chain(self.agent_flags.clone()).collect();
        let says = |start: &str| self.agent_flags.iter().any(|flag| flag.starts_with(start));
        if !says("--module=") && !says("--door=ext-authz") {
            flags.push(format!("--module={}", program("libimp_module.so")?.display()));
        }
        Ok(flags)
    }
}

/// The whole stack. Fields are dropped, and their processes killed, in this order.
pub struct Stack {
    /// The data plane; more can be added.
    pub envoys: Vec<Envoy>,
    pub agent: Agent,
    pub control: Control,
    /// The upstream of all calls.
    pub upstream: Upstream,
    /// The REST API as the system-admin.
    pub admin: Rest,
    pub cluster_id: String,
    options: Options,
    started: u32,
    directory: tempfile::TempDir,
}

impl Stack {
    /// Starts everything: the agent is connected to the control plane, and Envoy to the agent.
    pub async fn start(options: Options) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("imp-stack-").tempdir()?;
        let upstream = Upstream::start().await?;
        let control = Control::start(
            directory.path(),
            options.database_url.as_deref(),
            &options.control_flags,
        )
        .await?;
        let admin = control.admin()?;
        let cluster = admin
            .post("/v1/clusters", &json!({ "name": "kr-seoul", "region": "ap-northeast-2" }))
            .await?;
        let cluster_id = text(&cluster, "id")?;
        let token = registration_token(&admin, &cluster_id).await?;
        let agent =
            Agent::start(directory.path(), &control, Some(&token), &options.flags(&control)?)
                .await?;
        let envoys = vec![];
        let started = 0;
        let mut stack = Self {
            envoys,
            agent,
            control,
            upstream,
            admin,
            cluster_id,
            options,
            started,
            directory,
        };
        if stack.options.envoy {
            stack.add_envoy().await?;
        }
        Ok(stack)
    }

    /// Adds another, empty Envoy.
    pub async fn add_envoy(&mut self) -> Result<()> {
        let xds = self.agent.xds.clone();
        self.add_envoy_through(&xds).await
    }

    /// Adds another Envoy that connects to this socket (a proxy in front of the agent).
    pub async fn add_envoy_through(&mut self, xds: &Path) -> Result<()> {
        self.started += 1;
        let name = format!("envoy-{}", self.started);
        let workers = self.options.workers;
        let envoy = Envoy::start(self.directory.path(), &name, xds, workers).await?;
        self.envoys.push(envoy);
        Ok(())
    }

    /// Kills the agent and starts a new one on the same state directory.
    pub async fn restart_agent(&mut self) -> Result<()> {
        self.agent.kill();
        self.agent.revive(&self.options.flags(&self.control)?).await
    }

    /// The directory of its files.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Polls a publish until it has this status; returns the object.
    pub async fn publish_reaches(&self, id: &str, status: &str, limit: Duration) -> Result<Value> {
        let path = format!("/v1/product-publishes/{id}");
        let mut last = Value::Null;
        let reached = eventually(&format!("{path} {status}"), limit, async || {
            last = self.admin.get(&path).await?;
            Ok((last.get("status").and_then(Value::as_str) == Some(status)).then(|| last.clone()))
        })
        .await;
        reached.with_context(|| format!("last seen: {last}\n{}", self.agent.last_words()))
    }

    /// Polls a path of a host until it answers with this status.
    pub async fn answers(
        &self,
        address: SocketAddr,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        status: u16,
    ) -> Result<crate::edge::Answer> {
        let mut last = None;
        let found = eventually(&format!("{host}{path} {status}"), PATIENCE, async || {
            let answer = crate::edge::call(address, host, path, headers).await.ok();
            last = answer.clone();
            Ok(answer.filter(|answer| answer.status == status))
        })
        .await;
        found.with_context(|| format!("last answer: {last:?}\n{}", self.agent.last_words()))
    }
}

/// Creates a registration token of a cluster.
pub async fn registration_token(admin: &Rest, cluster_id: &str) -> Result<String> {
    let path = format!("/v1/clusters/{cluster_id}/registration-tokens");
    text(&admin.post(&path, &json!({})).await?, "token")
}

/// A program of this workspace, built in the same profile as the current one.
pub fn program(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let found = beside.into_iter().find(|path| path.is_file());
    found
        .with_context(|| format!("{name} is not built beside {}: run `make build`", here.display()))
}
