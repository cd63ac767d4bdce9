//! The agent's process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Control, PATIENCE, program};
use crate::ports;
use crate::process::Process;

/// A running imp-agent.
pub struct Agent {
    process: Process,
    directory: PathBuf,
    control: SocketAddr,
    /// The socket of ADS and ext_authz.
    pub xds: PathBuf,
    /// Health, metrics, status.
    pub admin: SocketAddr,
}

impl Agent {
    /// Starts it and waits until it serves.
    pub async fn start(
        directory: &Path,
        control: &Control,
        token: Option<&str>,
        flags: &[String],
    ) -> Result<Self> {
        let admin = ports::local(ports::free()?);
        let xds = directory.join("agent/xds.sock");
        let control = control.agent_listen;
        let process = spawn(directory, control, admin, token, flags)?;
        let mut agent = Self { process, directory: directory.to_owned(), control, xds, admin };
        agent.wait().await?;
        Ok(agent)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Kills it, like a crash.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, socket and state, without a token.
    pub async fn revive(&mut self, flags: &[String]) -> Result<()> {
        self.process = spawn(&self.directory, self.control, self.admin, None, flags)?;
        self.wait().await
    }

    /// The text of its metrics.
    pub async fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", self.admin);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    /// The sum of the metrics whose name, with labels, begins like this; 0 if there is none yet.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = self.metrics().await?;
        let value =
            |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        let found = text.lines().filter(|line| is_metric(line, name));
        Ok(found.filter_map(value).sum())
    }

    /// Sets the control plane's address for the next start.
    pub fn look_for_control_at(&mut self, address: SocketAddr) {
        self.control = address;
    }

    async fn wait(&mut self) -> Result<()> {
        crate::install_crypto();
        let url = format!("http://{}/readyz", self.admin);
        let http = reqwest::Client::new();
        let ready = async || http.get(&url).send().await.is_ok_and(|a| a.status().is_success());
        self.process.wait_until("ready", PATIENCE, ready).await
    }
}

/// Whether a line of metrics has this name, which may go on with labels.
fn is_metric(line: &str, name: &str) -> bool {
    line.strip_prefix(name).is_some_and(|rest| name.contains('{') || rest.starts_with([' ', '{']))
}

/// The bootstrap that imp-agent prints for an Envoy of this name.
pub(super) fn bootstrap(node: &str, xds: &Path, admin: &Path) -> Result<String> {
    let output = Command::new(program("imp-agent")?)
        .arg("bootstrap")
        .args(["--xds-listen", &format!("unix:{}", xds.display())])
        .args(["--envoy-admin", &format!("unix:{}", admin.display())])
        .args(["--node-id", node])
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "imp-agent bootstrap: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn spawn(
    directory: &Path,
    control: SocketAddr,
    admin: SocketAddr,
    token: Option<&str>,
    flags: &[String],
) -> Result<Process> {
    let mut command = Command::new(program("imp-agent")?);
    command
        .args(["--control", &format!("http://{control}")])
        .args(["--admin-listen", &admin.to_string()])
        .args(["--bind-address", &admin.ip().to_string()])
        .arg("--state-dir")
        .arg(directory.join("agent"))
        .args(flags);
    if let Some(token) = token {
        command.env("IMP_REGISTRATION_TOKEN", token);
    }
    Process::spawn("agent", directory, &mut command)
}
