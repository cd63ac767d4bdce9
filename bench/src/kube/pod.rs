//! The kubelet's part: runs the Envoy of a Deployment that Envoy Gateway made, with its arguments, volumes and bootstrap.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ports;
use crate::process::Process;
use crate::stack::{EnvoyAdmin, PATIENCE, envoy_binary};
use anyhow::{Context as _, Result};
use serde_json::Value;

use super::api::{Api, SYSTEM};

pub struct Pod {
    process: Process,
    arguments: Vec<String>,
    folder: PathBuf,
    name: String,
    admin: SocketAddr,
    /// The volumes, and where they are mounted.
    volumes: Vec<(Value, PathBuf)>,
    /// Names of the cluster, ports and places of the container, and what they are here.
    renamed: Vec<(String, String)>,
}

impl Pod {
    /// Starts a pod of a Gateway's Deployment once that has what `is_wanted` asks of its bootstrap.
    pub async fn start(
        api: &Api,
        (namespace, gateway): (&str, &str),
        name: &str,
        folder: &Path,
        is_wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let owner = "gateway.envoyproxy.io/owning-gateway";
        let path = format!(
            "/apis/apps/v1/namespaces/{SYSTEM}/deployments?labelSelector={owner}-name={gateway},{owner}-namespace={namespace}"
        );
        let found =
            api.until(&path, |list| is_wanted(&bootstrap(list).unwrap_or_default())).await?;
        let spec = found.pointer("/items/0/spec/template/spec").context("no pod")?;
        let container = container(spec)?;
        let folder = folder.join(name);
        let admin = ports::local(ports::free()?);
        let metrics = ports::free()?.to_string();
        let mut arguments = arguments(container);
        let mut renamed = vec![
            (
                "envoy-gateway.envoy-gateway-system.svc.cluster.local.".to_owned(),
                "127.0.0.1".to_owned(),
            ),
            ("port_value: 19000".to_owned(), format!("port_value: {}", admin.port())),
            ("port_value: 19001".to_owned(), format!("port_value: {metrics}")),
            ("$(ENVOY_POD_NAME)".to_owned(), name.to_owned()),
            ("$(ENVOY_SERVICE_ZONE)".to_owned(), "zone".to_owned()),
        ];
        let mut volumes = Vec::new();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let at = mount["mountPath"].as_str().context("no mountPath")?;
            let all = spec["volumes"].as_array().into_iter().flatten();
            let Some(volume) = all.into_iter().find(|it| it["name"] == mount["name"]) else {
                continue;
            };
            let place = folder.join(at.trim_start_matches('/'));
            volumes.push((volume.clone(), place.clone()));
            let place = place.display();
            renamed.push((format!("{at}/"), format!("{place}/")));
            renamed.push((format!("path: {at}\n"), format!("path: {place}\n")));
        }
        for argument in &mut arguments {
            *argument = all_renamed(argument, &renamed);
        }
        arguments.retain(|argument| argument != "--cpuset-threads");
        let name = name.to_owned();
        mount(api, &volumes, &renamed).await?;
        let process = spawn(&arguments, &folder, &name)?;
        let mut pod = Self { process, arguments, folder, name, admin, volumes, renamed };
        pod.wait().await?;
        Ok(pod)
    }

    /// Mounts what the volumes have by now.
    pub async fn mount_again(&self, api: &Api) -> Result<()> {
        mount(api, &self.volumes, &self.renamed).await
    }

    async fn wait(&mut self) -> Result<()> {
        let url = format!("http://{}/ready", self.admin);
        let ready = async || reqwest::get(&url).await.is_ok_and(|it| it.status().is_success());
        self.process.wait_until("ready", PATIENCE, ready).await
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// Kills it and starts it with what it had.
    pub async fn restart(&mut self) -> Result<()> {
        self.begin_again()?;
        self.wait().await
    }

    /// The same, without waiting until it is ready.
    pub fn begin_again(&mut self) -> Result<()> {
        self.process.kill();
        self.process = spawn(&self.arguments, &self.folder, &self.name)?;
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its admin interface.
    pub fn admin(&self) -> Result<EnvoyAdmin> {
        EnvoyAdmin::on(self.admin)
    }

    /// The folder of what is mounted there.
    pub fn mounted(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/'))
    }
}

fn spawn(arguments: &[String], folder: &Path, name: &str) -> Result<Process> {
    let mut command = Command::new(envoy_binary()?);
    command.args(arguments).args(["--use-dynamic-base-id", "--concurrency", "1"]);
    Process::spawn(name, folder, &mut command)
}

fn container(spec: &Value) -> Result<&Value> {
    let all = spec["containers"].as_array().context("no containers")?;
    all.iter().find(|it| it["name"] == "envoy").context("no container envoy")
}

fn arguments(container: &Value) -> Vec<String> {
    let all = container["args"].as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn bootstrap(list: &Value) -> Option<String> {
    let container = container(list.pointer("/items/0/spec/template/spec")?).ok()?;
    let arguments = arguments(container);
    let at = arguments.iter().position(|argument| argument == "--config-yaml")?;
    arguments.get(at + 1).cloned()
}

async fn mount(
    api: &Api,
    volumes: &[(Value, PathBuf)],
    renamed: &[(String, String)],
) -> Result<()> {
    for (volume, place) in volumes {
        // Files name the places of others.
        api.mount(volume, place, |text| all_renamed(text, renamed)).await?;
    }
    Ok(())
}

fn all_renamed(text: &str, renamed: &[(String, String)]) -> String {
    renamed.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}
