//! The control plane's process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::{PATIENCE, program};
use crate::ports;
use crate::process::Process;
use crate::rest::Rest;

/// A running imp-control.
pub struct Control {
    process: Process,
    directory: PathBuf,
    database_url: Option<String>,
    flags: Vec<String>,
    /// The address of REST.
    pub listen: SocketAddr,
    /// The address for agents.
    pub agent_listen: SocketAddr,
}

impl Control {
    /// Starts on free ports, with its data in `directory`.
    pub async fn start(
        directory: &Path,
        database_url: Option<&str>,
        flags: &[String],
    ) -> Result<Self> {
        let listen = ports::local(ports::free()?);
        let agent_listen = ports::local(ports::free()?);
        let database_url = database_url.map(str::to_owned);
        let process = spawn(directory, database_url.as_deref(), listen, agent_listen, flags)?;
        let directory = directory.to_owned();
        let flags = flags.to_vec();
        let mut control = Self { process, directory, database_url, flags, listen, agent_listen };
        control.wait().await?;
        Ok(control)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Kills it, like a crash.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports and data.
    pub async fn revive(&mut self) -> Result<()> {
        let url = self.database_url.as_deref();
        self.process = spawn(&self.directory, url, self.listen, self.agent_listen, &self.flags)?;
        self.wait().await
    }

    /// The REST API with the token of the first start.
    pub fn admin(&self) -> Result<Rest> {
        let file = self.directory.join("admin-token");
        let token = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(Rest::new(self.url(), token.trim()))
    }

    /// The URL of the REST API.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    async fn wait(&mut self) -> Result<()> {
        crate::install_crypto();
        let (url, token) = (format!("{}/healthz", self.url()), self.directory.join("admin-token"));
        let http = reqwest::Client::new();
        let ready = async || {
            let answer = http.get(&url).send().await;
            token.is_file() && answer.is_ok_and(|answer| answer.status().is_success())
        };
        self.process.wait_until("ready", PATIENCE, ready).await
    }
}

fn spawn(
    directory: &Path,
    database_url: Option<&str>,
    listen: SocketAddr,
    agent_listen: SocketAddr,
    flags: &[String],
) -> Result<Process> {
    let mut command = Command::new(program("imp-control")?);
    command
        .env_remove("DATABASE_URL")
        .args(["--listen", &listen.to_string()])
        .args(["--agent-listen", &agent_listen.to_string()])
        .args(["--allow-upstream", "127.0.0.0/8"])
        .args(["--shared-domains", "example.com,example"])
        .args(flags)
        .arg("--data-dir")
        .arg(directory.join("control"))
        .arg("--bootstrap-token-file")
        .arg(directory.join("admin-token"));
    if let Some(url) = database_url {
        command.env("DATABASE_URL", url);
    }
    Process::spawn("control", directory, &mut command)
}
