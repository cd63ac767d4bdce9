//! A real Envoy's process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::PATIENCE;
use crate::process::Process;

/// The admin interface at a socket; the client knows which, the name has no meaning.
const AT_SOCKET: &str = "http://envoy";

/// A running Envoy.
pub struct Envoy {
    process: Process,
    admin: EnvoyAdmin,
}

/// The admin interface of an Envoy.
#[derive(Clone)]
pub struct EnvoyAdmin {
    http: reqwest::Client,
    url: String,
}

/// The Envoy that `deploy/tools/envoy.sh` names.
pub fn binary() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let output = Command::new(root.join("deploy/tools/envoy.sh")).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "no Envoy: run `make tools`: {errors}");
    Ok(PathBuf::from(String::from_utf8(output.stdout)?.trim()))
}

impl Envoy {
    /// Starts it with the bootstrap that imp-agent prints for the ADS server at the socket `xds`;
    /// waits until it is up.
    pub async fn start(directory: &Path, name: &str, xds: &Path, workers: u32) -> Result<Self> {
        let admin = directory.join(format!("{name}.sock"));
        let file = directory.join(format!("{name}.yaml"));
        std::fs::write(&file, super::agent::bootstrap(name, xds, &admin)?)?;
        let mut command = Command::new(binary()?);
        command
            .arg("-c")
            .arg(&file)
            .args(["--concurrency", &workers.to_string(), "--use-dynamic-base-id"])
            .args(["--drain-time-s", "2", "--log-level", "warning"]);
        let process = Process::spawn(name, directory, &mut command)?;
        let admin = EnvoyAdmin::at(&admin)?;
        let mut envoy = Self { process, admin: admin.clone() };
        let up = async || admin.answers("server_info").await;
        envoy.process.wait_until("up", PATIENCE, up).await?;
        Ok(envoy)
    }

    /// Kills it, like a crash.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its admin interface.
    pub fn admin(&self) -> EnvoyAdmin {
        self.admin.clone()
    }

    /// Counters and gauges whose name matches the regular expression.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        self.admin.stats(filter).await
    }

    /// The counters that change if a listener is ever updated, drained or replaced.
    pub async fn listener_counters(&self) -> Result<BTreeMap<String, u64>> {
        self.stats(
            "^listener_manager\\.(listener_(added|modified|removed|in_place_updated|stopped)\
             |total_listeners_draining|total_filter_chains_draining|lds\\.(version|update_success|update_rejected))$",
        )
        .await
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }
}

impl EnvoyAdmin {
    /// That of the Envoy at this socket.
    pub fn at(socket: &Path) -> Result<Self> {
        crate::install_crypto();
        let http = reqwest::Client::builder().unix_socket(socket).build()?;
        Ok(Self { http, url: AT_SOCKET.to_owned() })
    }

    /// That of the Envoy at this address.
    pub fn on(address: SocketAddr) -> Result<Self> {
        crate::install_crypto();
        Ok(Self { http: reqwest::Client::builder().build()?, url: format!("http://{address}") })
    }

    /// Whether a page can be had: `ready` as soon as Envoy serves.
    pub async fn answers(&self, page: &str) -> bool {
        let answer = self.http.get(format!("{}/{page}", self.url)).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// A page that is JSON.
    pub async fn json(&self, page: &str) -> Result<serde_json::Value> {
        let answer = self.http.get(format!("{}/{page}", self.url)).send().await?;
        Ok(answer.error_for_status()?.json().await?)
    }

    /// Counters and gauges whose name matches the regular expression.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let page = format!("{}/stats", self.url);
        let url = reqwest::Url::parse_with_params(&page, [("filter", filter)])?;
        let text = self.http.get(url).send().await?.error_for_status()?.text().await?;
        let line = |line: &str| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(text.lines().filter_map(line).collect())
    }
}
