//! Backends: `Backend` of Envoy Gateway, a `Service` with its `EndpointSlice`s elsewhere.

use std::collections::BTreeMap;

use imp_grammar::classes::{self, Class};
use serde_json::{Value, json};

use super::deployed::Options;
use super::object::{
    BACKEND, BACKEND_TLS, CONFIG_MAP, ENDPOINTS, ENVOY_GATEWAY, Owner, SERVICE, digest, set,
};
use super::refusal::{Refusal, need};
use crate::ir::{self, EndpointHost, Trust};

/// The port of a `Service`: the slices have the real ones.
const SERVICE_PORT: u16 = 80;
/// The largest weight of Gateway API.
const MAX_WEIGHT: u32 = 1_000_000;
/// The most endpoints of one `Backend`.
const MAX_ENDPOINTS: usize = 256;

/// The backends of a publish, by what they are. Equal ones are one object, whose name is a hash of
/// its content: it is never changed while routes lead there.
pub(super) struct Backends<'a> {
    class: &'static Class,
    options: &'a Options,
    objects: BTreeMap<String, Vec<Value>>,
}

impl<'a> Backends<'a> {
    pub(super) fn new(class: &'static Class, options: &'a Options) -> Self {
        Self { class, options, objects: BTreeMap::new() }
    }

    /// The references of a rule.
    pub(super) fn references(
        &mut self,
        owner: &Owner<'_>,
        route: &ir::Route,
    ) -> Result<Value, Refusal> {
        let at = || format!("route {}", route.id);
        if route.backends.len() > 1 {
            need(self.class, classes::WEIGHTS, at)?;
        }
        if route.backends.len() > 16 || route.backends.iter().any(|it| it.weight > MAX_WEIGHT) {
            let why = "Gateway API has 16 backends per rule, with weights of 1,000,000 at most";
            return Err(Refusal::unsaid(at(), why));
        }
        let mut references = Vec::with_capacity(route.backends.len());
        for weighted in &route.backends {
            let name = self.add(owner, &weighted.backend, &at)?;
            let reference = match self.class.has_policies {
                true => json!({ "group": ENVOY_GATEWAY, "kind": "Backend", "name": name }),
                false => json!({
                    "group": "", "kind": "Service", "name": name, "port": SERVICE_PORT,
                }),
            };
            let mut reference = reference;
            set(&mut reference, "weight", json!(weighted.weight));
            references.push(reference);
        }
        Ok(json!(references))
    }

    /// All objects, in the order of their names.
    pub(super) fn into_objects(self) -> Vec<Value> {
        self.objects.into_values().flatten().collect()
    }

    fn add(
        &mut self,
        owner: &Owner<'_>,
        backend: &ir::Backend,
        at: &impl Fn() -> String,
    ) -> Result<String, Refusal> {
        self.check(backend, at)?;
        let (kind, spec) = match self.class.has_policies {
            true => ("Backend", self.spec(backend)),
            false => ("Service", service_spec(backend)),
        };
        let content = (&spec, slices(backend), backend.settings.tls.as_ref());
        let name = owner.name(&format!("-b{}", digest(&format!("{content:?}"))));
        if !self.objects.contains_key(&name) {
            let mut objects = trust(owner, &name, kind, backend, self.class, at)?;
            match self.class.has_policies {
                true => {
                    let spec = with_tls(spec, backend, &name);
                    objects.push(owner.of_spec(BACKEND, &name, spec));
                }
                false => {
                    objects.push(owner.of_spec(SERVICE, &name, spec));
                    objects.extend(endpoint_slices(owner, &name, backend));
                }
            }
            self.objects.insert(name.clone(), objects);
        }
        Ok(name)
    }

    fn check(&self, backend: &ir::Backend, at: &impl Fn() -> String) -> Result<(), Refusal> {
        if backend.http2 {
            need(self.class, classes::HTTP2_BACKENDS, at)?;
            if !self.class.has_policies && backend.settings.tls.is_some() {
                let why = "Gateway API asks for HTTP/2 without TLS only";
                return Err(Refusal::unsaid(at(), why));
            }
        }
        let weights: Vec<_> = backend.endpoints.iter().map(|it| it.weight).collect();
        if weights.windows(2).any(|pair| pair.first() != pair.last()) {
            let why = "endpoints of one backend have no weights there: write several backends";
            return Err(Refusal::unsaid(at(), why));
        }
        if backend.endpoints.len() > MAX_ENDPOINTS {
            return Err(Refusal::unsaid(at(), "a backend has 256 endpoints there at most"));
        }
        let is_name = |it: &ir::Endpoint| matches!(it.host, EndpointHost::Name(_));
        if backend.endpoints.iter().any(is_name) != backend.endpoints.iter().all(is_name) {
            return Err(Refusal::unsaid(at(), "names and addresses are not mixed there"));
        }
        backend.endpoints.iter().try_for_each(|endpoint| self.judge(endpoint, at))
    }

    /// Nothing judges the address of a call there, so that is done here.
    fn judge(&self, endpoint: &ir::Endpoint, at: &impl Fn() -> String) -> Result<(), Refusal> {
        match &endpoint.host {
            EndpointHost::Address(address) => {
                let admitted = self.options.upstreams.admits(*address, endpoint.port);
                let why = "no call may be sent to the address of its backend";
                if admitted { Ok(()) } else { Err(Refusal::unsaid(at(), why)) }
            }
            EndpointHost::Name(name) => {
                need(self.class, classes::BACKEND_NAMES, at)?;
                let listed = |entry: &String| match entry.strip_prefix("*.") {
                    Some(domain) => {
                        name.strip_suffix(domain).is_some_and(|start| start.ends_with('.'))
                    }
                    None => entry == name,
                };
                let why = "the name of its backend is not listed in --allow-upstream, and nothing would judge what it resolves to";
                if self.options.names.iter().any(listed) {
                    Ok(())
                } else {
                    Err(Refusal::unsaid(at(), why))
                }
            }
        }
    }

    fn spec(&self, backend: &ir::Backend) -> Value {
        let endpoint = |endpoint: &ir::Endpoint| match &endpoint.host {
            EndpointHost::Address(address) => {
                json!({ "ip": { "address": address.to_string(), "port": endpoint.port } })
            }
            EndpointHost::Name(name) => {
                json!({ "fqdn": { "hostname": name, "port": endpoint.port } })
            }
        };
        let endpoints: Vec<_> = backend.endpoints.iter().map(endpoint).collect();
        let mut spec = json!({ "type": "Endpoints", "endpoints": endpoints });
        if backend.http2 {
            set(&mut spec, "appProtocols", json!(["gateway.envoyproxy.io/h2c"]));
        }
        spec
    }
}

/// The TLS settings that only `Backend` has.
fn with_tls(mut spec: Value, backend: &ir::Backend, name: &str) -> Value {
    let Some(tls) = &backend.settings.tls else { return spec };
    let alpn = if backend.http2 { "h2" } else { "http/1.1" };
    let mut settings = json!({ "alpnProtocols": [alpn], "minVersion": "1.2" });
    if let Some(sni) = &tls.sni {
        set(&mut settings, "sni", json!(sni));
    }
    match &tls.trust {
        Trust::Anyone => set(&mut settings, "insecureSkipVerify", json!(true)),
        Trust::System => set(&mut settings, "wellKnownCACertificates", json!("System")),
        Trust::Authorities(_) => {
            let reference = json!([{ "group": "", "kind": "ConfigMap", "name": name }]);
            set(&mut settings, "caCertificateRefs", reference);
        }
    }
    set(&mut spec, "tls", settings);
    spec
}

/// Who is trusted: a certificate must have the name of the backend.
fn trust(
    owner: &Owner<'_>,
    name: &str,
    kind: &str,
    backend: &ir::Backend,
    class: &Class,
    at: &impl Fn() -> String,
) -> Result<Vec<Value>, Refusal> {
    let Some(tls) = &backend.settings.tls else { return Ok(Vec::new()) };
    let mut objects = Vec::new();
    let mut validation = json!({});
    match &tls.trust {
        Trust::Anyone => {
            need(class, classes::UPSTREAM_TLS_UNVERIFIED, at)?;
            return Ok(objects);
        }
        Trust::System => set(&mut validation, "wellKnownCACertificates", json!("System")),
        Trust::Authorities(pem) => {
            let reference = json!([{ "group": "", "kind": "ConfigMap", "name": name }]);
            set(&mut validation, "caCertificateRefs", reference);
            objects.push(owner.object(CONFIG_MAP, name, json!({ "data": { "ca.crt": pem } })));
        }
    }
    need(class, classes::UPSTREAM_TLS, at)?;
    let Some(sni) = &tls.sni else {
        let why = "Gateway API verifies certificates by name: give the backend an `sni`";
        return Err(Refusal::unsaid(at(), why));
    };
    set(&mut validation, "hostname", json!(sni));
    let group = if kind == "Backend" { ENVOY_GATEWAY } else { "" };
    let spec = json!({
        "targetRefs": [{ "group": group, "kind": kind, "name": name }],
        "validation": validation,
    });
    objects.push(owner.of_spec(BACKEND_TLS, name, spec));
    Ok(objects)
}

/// Without a selector, so that nobody else makes slices.
fn service_spec(backend: &ir::Backend) -> Value {
    let mut port = json!({
        "name": "http", "port": SERVICE_PORT, "protocol": "TCP", "targetPort": SERVICE_PORT,
    });
    if backend.http2 {
        set(&mut port, "appProtocol", json!("kubernetes.io/h2c"));
    }
    json!({ "type": "ClusterIP", "ports": [port] })
}

/// Endpoints by kind of address and port: each is a slice.
fn slices(backend: &ir::Backend) -> BTreeMap<(&'static str, u16), Vec<String>> {
    let mut slices: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for endpoint in &backend.endpoints {
        if let EndpointHost::Address(address) = &endpoint.host {
            let kind = if address.is_ipv4() { "IPv4" } else { "IPv6" };
            slices.entry((kind, endpoint.port)).or_default().push(address.to_string());
        }
    }
    slices
}

fn endpoint_slices(owner: &Owner<'_>, service: &str, backend: &ir::Backend) -> Vec<Value> {
    let slice = |(index, ((kind, port), addresses)): (usize, ((&str, u16), Vec<String>))| {
        let ready = |it: &String| json!({ "addresses": [it], "conditions": { "ready": true } });
        let endpoints: Vec<_> = addresses.iter().map(ready).collect();
        let mut object = owner.object(
            ENDPOINTS,
            &format!("{service}-{index}"),
            json!({
                "addressType": kind,
                "endpoints": endpoints,
                "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
            }),
        );
        if let Some(labels) = object.pointer_mut("/metadata/labels") {
            set(labels, "kubernetes.io/service-name", json!(service));
        }
        object
    };
    slices(backend).into_iter().enumerate().map(slice).collect()
}
