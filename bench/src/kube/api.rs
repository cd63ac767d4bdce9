//! The API server, as its administrator.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::eventually;
use crate::stack::PATIENCE;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

const SERVER: &str = "https://127.0.0.1:6443";
pub const GATEWAYS: &str = "/apis/gateway.networking.k8s.io/v1";
pub const ENVOY_GATEWAY: &str = "/apis/gateway.envoyproxy.io/v1alpha1";
/// Where Envoy Gateway and its pods are.
pub const SYSTEM: &str = "envoy-gateway-system";

pub struct Api {
    http: reqwest::Client,
}

/// The folder of the running stack.
pub fn folder() -> Result<PathBuf> {
    let folder = std::env::var("IMP_KUBE_DIR");
    Ok(folder.context("run it by `make test-kube`: deploy/kube/stack.py starts the stack")?.into())
}

pub fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| name.to_owned())
}

/// A part of the stack (`eg`, `apiserver`) that is down while this lives.
pub struct Down(&'static str);

impl Down {
    pub fn take(name: &'static str) -> Result<Self> {
        stack(&["stop", name])?;
        Ok(Self(name))
    }
}

impl Drop for Down {
    fn drop(&mut self) {
        // Other tests need it, whatever this one has found.
        let started = stack(&["start", self.0]);
        assert!(started.is_ok() || std::thread::panicking(), "{started:?}");
    }
}

/// Replaces the former Envoy Gateway, which `stack.py run former` started, by this one.
pub fn upgrade() -> Result<()> {
    stack(&["upgrade"])
}

fn stack(arguments: &[&str]) -> Result<()> {
    let status = Command::new(variable("IMP_KUBE_STACK")?).args(arguments).status()?;
    ensure!(status.success(), "{arguments:?}");
    Ok(())
}

impl Api {
    pub fn new() -> Result<Self> {
        crate::install_crypto();
        let pki = folder()?.join("pki");
        let read = |name: &str| std::fs::read(pki.join(name));
        let identity = [read("admin.crt")?, read("admin.key")?].concat();
        let http = reqwest::Client::builder()
            .identity(reqwest::Identity::from_pem(&identity)?)
            .tls_danger_accept_invalid_certs(true)
            .build()?;
        Ok(Self { http })
    }

    /// Server-side apply.
    pub async fn apply(&self, path: &str, object: &Value) -> Result<Value> {
        let url = format!("{SERVER}{path}?fieldManager=test&force=true");
        let request = self.http.patch(url).header("content-type", "application/apply-patch+yaml");
        let answer = request.body(object.to_string()).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// The object; null if there is none.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let answer = self.http.get(format!("{SERVER}{path}")).send().await?;
        if answer.status() == 404 {
            return Ok(Value::Null);
        }
        Ok(answer.error_for_status()?.json().await?)
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        self.http.delete(format!("{SERVER}{path}")).send().await?.error_for_status()?;
        Ok(())
    }

    /// The objects of a list.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.get(path).await?;
        Ok(serde_json::from_value(list["items"].take())?)
    }

    /// Deletes the routes, policies and Gateways of a namespace.
    pub async fn clear(&self, namespace: &str) -> Result<()> {
        let theirs = [(GATEWAYS, "httproutes"), (ENVOY_GATEWAY, "securitypolicies")];
        for (api, kind) in theirs.into_iter().chain([(GATEWAYS, "gateways")]) {
            self.delete(&format!("{api}/namespaces/{namespace}/{kind}")).await?;
        }
        Ok(())
    }

    /// A namespace with an Envoy Gateway class, and a Gateway that is labelled with a gateway of ours and has these
    /// annotations.
    pub async fn gateway(
        &self,
        namespace: &str,
        ours: &str,
        annotations: &[(&str, &str)],
        [plain, secure]: [u16; 2],
    ) -> Result<()> {
        let class = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "eg"},
            "spec": {"controllerName": "gateway.envoyproxy.io/gatewayclass-controller"},
        });
        self.apply(&format!("{GATEWAYS}/gatewayclasses/eg"), &class).await?;
        let object =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        self.apply(&format!("/api/v1/namespaces/{namespace}"), &object).await?;
        let routes = json!({"namespaces": {"from": "All"}});
        let tls = json!({"certificateRefs": [{"name": "tls"}]});
        self.certificate(namespace).await?;
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "gw", "namespace": namespace,
                "labels": {"imp-gateway.io/gateway": ours}, "annotations": annotations},
            "spec": {
                "gatewayClassName": "eg",
                "listeners": [
                    {"name": "http", "port": plain, "protocol": "HTTP", "allowedRoutes": routes},
                    {"name": "https", "port": secure, "protocol": "HTTPS", "allowedRoutes": routes, "tls": tls},
                ],
                "infrastructure": {"parametersRef":
                    {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "imp-gw"}},
            },
        });
        self.apply(&format!("{GATEWAYS}/namespaces/{namespace}/gateways/gw"), &gateway).await?;
        Ok(())
    }

    /// The certificate of a Gateway's listener.
    async fn certificate(&self, namespace: &str) -> Result<()> {
        let made = rcgen::generate_simple_self_signed(["*.example.com".to_owned()])?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": {"name": "tls", "namespace": namespace},
            "stringData": {"tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem()},
        });
        self.apply(&format!("/api/v1/namespaces/{namespace}/secrets/tls"), &secret).await?;
        Ok(())
    }

    /// Changes the label of a namespace's Gateway; null takes it away.
    pub async fn label(&self, namespace: &str, value: Value) -> Result<()> {
        let path = format!("{GATEWAYS}/namespaces/{namespace}/gateways/gw");
        let patch = json!({"metadata": {"labels": {"imp-gateway.io/gateway": value}}});
        self.patch(&path, &patch).await
    }

    /// Changes an annotation of a namespace's Gateway; null takes it away.
    pub async fn annotate(&self, namespace: &str, name: &str, value: Value) -> Result<()> {
        let path = format!("{GATEWAYS}/namespaces/{namespace}/gateways/gw");
        self.patch(&path, &json!({"metadata": {"annotations": {name: value}}})).await
    }

    /// Changes some fields of an object.
    pub async fn patch(&self, path: &str, fields: &Value) -> Result<()> {
        let request = self.http.patch(format!("{SERVER}{path}"));
        let request = request.header("content-type", "application/merge-patch+json");
        let answer = request.body(fields.to_string()).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status} {text}");
        Ok(())
    }

    /// A Service with this address behind it, as the endpoint controller would make it.
    pub async fn service(&self, namespace: &str, name: &str, ip: &str, port: u16) -> Result<()> {
        let ports = json!([{"name": "http", "port": 80, "targetPort": port, "protocol": "TCP"}]);
        let service = json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace}, "spec": {"ports": ports}});
        self.apply(&format!("/api/v1/namespaces/{namespace}/services/{name}"), &service).await?;
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        });
        let path =
            format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{name}");
        self.apply(&path, &slice).await?;
        Ok(())
    }

    /// An HTTPRoute of somebody else.
    pub async fn route(&self, namespace: &str, name: &str, host: &str) -> Result<()> {
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"parentRefs": [{"name": "gw"}], "hostnames": [host],
                "rules": [{"backendRefs": [{"name": "theirs", "port": 80}]}]},
        });
        self.apply(&format!("{GATEWAYS}/namespaces/{namespace}/httproutes/{name}"), &route).await?;
        Ok(())
    }

    /// Waits until an object fulfils this; returns it.
    pub async fn until(&self, path: &str, what: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = eventually(path, PATIENCE, async || {
            last = self.get(path).await?;
            Ok(what(&last).then(|| last.clone()))
        })
        .await;
        found.with_context(|| format!("last seen: {last}"))
    }

    /// Writes what a volume mounts, each entry a file: as the kubelet does it, all of them change at once. `edited` is what
    /// becomes of a text.
    pub async fn mount(
        &self,
        volume: &Value,
        folder: &Path,
        edited: impl Fn(&str) -> String,
    ) -> Result<()> {
        let named = |pointer: &str| volume.pointer(pointer).and_then(Value::as_str);
        let (path, is_secret) = match (named("/secret/secretName"), named("/configMap/name")) {
            (Some(name), _) => (format!("/api/v1/namespaces/{SYSTEM}/secrets/{name}"), true),
            (_, Some(name)) => (format!("/api/v1/namespaces/{SYSTEM}/configmaps/{name}"), false),
            _ => return Ok(()),
        };
        std::fs::create_dir_all(folder)?;
        let place = tempfile::Builder::new().prefix("..").tempdir_in(folder)?.keep();
        let object = self.until(&path, |object| object.get("data").is_some()).await?;
        for (name, value) in object["data"].as_object().context("no data")? {
            let text = value.as_str().context("no text")?;
            let content = if is_secret { decoded(text)? } else { text.into() };
            let content = match String::from_utf8(content) {
                Ok(text) => edited(&text).into_bytes(),
                Err(binary) => binary.into_bytes(),
            };
            std::fs::write(place.join(name), content)?;
            let link = folder.join(name);
            if !link.is_symlink() {
                symlink(Path::new(DATA).join(name), link)?;
            }
        }
        let draft = folder.join("..data_tmp");
        symlink(place.file_name().context("no name")?, &draft)?;
        std::fs::rename(draft, folder.join(DATA))?;
        Ok(())
    }
}

/// What the files of a volume are links to.
const DATA: &str = "..data";

fn decoded(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}

/// The status of a condition of an ancestor.
pub fn has_condition(object: &Value, kind: &str, status: &str) -> bool {
    let ancestors = object.pointer("/status/ancestors").and_then(Value::as_array);
    let conditions = ancestors.into_iter().flatten().filter_map(|it| it["conditions"].as_array());
    conditions.flatten().any(|it| it["type"] == kind && it["status"] == status)
}
