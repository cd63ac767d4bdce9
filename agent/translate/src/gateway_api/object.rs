//! Objects: names, labels, and which fields every one has.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The label that Kubernetes' tools know, and its value.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGER: &str = "imp-gateway";
/// Labels with the ids of what an object is part of.
pub const CLUSTER: &str = "imp-gateway.io/cluster";
pub const GATEWAY: &str = "imp-gateway.io/of-gateway";
pub const PUBLISH: &str = "imp-gateway.io/of-publish";
/// The label of routes that anybody may call: of others it takes a policy.
pub(super) const OPEN: &str = "imp-gateway.io/open";
/// The label of the route that says how far proxies are.
pub const PROBE: &str = "imp-gateway.io/probe";
/// The annotation of routes with the revision of the publish. Others have none: what is the same in two
/// revisions is not written again.
pub const REVISION: &str = "imp-gateway.io/revision";

pub(super) const GATEWAY_API: &str = "gateway.networking.k8s.io";
pub(super) const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

/// A kind with its API.
#[derive(Clone, Copy)]
pub(super) struct Kind(pub(super) &'static str, pub(super) &'static str);

pub(super) const OF_GATEWAY: Kind = Kind("gateway.networking.k8s.io/v1", "Gateway");
pub(super) const HTTP_ROUTE: Kind = Kind("gateway.networking.k8s.io/v1", "HTTPRoute");
pub(super) const BACKEND_TLS: Kind = Kind("gateway.networking.k8s.io/v1", "BackendTLSPolicy");
pub(super) const BACKEND: Kind = Kind("gateway.envoyproxy.io/v1alpha1", "Backend");
pub(super) const SECURITY: Kind = Kind("gateway.envoyproxy.io/v1alpha1", "SecurityPolicy");
pub(super) const TRAFFIC: Kind = Kind("gateway.envoyproxy.io/v1alpha1", "BackendTrafficPolicy");
pub(super) const CLIENTS: Kind = Kind("gateway.envoyproxy.io/v1alpha1", "ClientTrafficPolicy");
pub(super) const FILTER: Kind = Kind("gateway.envoyproxy.io/v1alpha1", "HTTPRouteFilter");
pub(super) const SERVICE: Kind = Kind("v1", "Service");
pub(super) const SECRET: Kind = Kind("v1", "Secret");
pub(super) const CONFIG_MAP: Kind = Kind("v1", "ConfigMap");
pub(super) const ENDPOINTS: Kind = Kind("discovery.k8s.io/v1", "EndpointSlice");

/// What the objects of one gateway or publish have in common.
#[derive(Clone, Debug)]
pub(super) struct Owner<'a> {
    pub(super) namespace: &'a str,
    pub(super) cluster: &'a str,
    pub(super) gateway: &'a str,
    /// The publish and its revision; none for objects of the gateway itself.
    pub(super) publish: Option<(&'a str, u64)>,
}

impl Owner<'_> {
    /// The name of one of its objects. Names have 63 bytes at most, and say whose they are.
    pub(super) fn name(&self, suffix: &str) -> String {
        let id = self.publish.map_or(self.gateway, |(id, _)| id);
        let name = format!("imp-{}{suffix}", label(id));
        debug_assert!(name.len() <= 63, "{name}");
        name
    }

    /// An object with these fields beside its metadata.
    pub(super) fn object(&self, kind: Kind, name: &str, fields: Value) -> Value {
        let Kind(api_version, kind) = kind;
        let mut labels = json!({
            MANAGED_BY: MANAGER,
            CLUSTER: label(self.cluster),
            GATEWAY: label(self.gateway),
        });
        let mut metadata = json!({ "name": name, "namespace": self.namespace });
        if let Some((id, revision)) = self.publish {
            set(&mut labels, PUBLISH, json!(label(id)));
            if kind == HTTP_ROUTE.1 {
                set(&mut metadata, "annotations", json!({ REVISION: revision.to_string() }));
            }
        }
        set(&mut metadata, "labels", labels);
        let mut object = json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata });
        if let Value::Object(fields) = fields {
            fields.into_iter().for_each(|(field, value)| set(&mut object, &field, value));
        }
        object
    }

    /// An object whose only field is its `spec`.
    pub(super) fn of_spec(&self, kind: Kind, name: &str, spec: Value) -> Value {
        self.object(kind, name, json!({ "spec": spec }))
    }
}

/// The reference of an `HTTPRoute` to its `Gateway`.
pub(super) fn parent(name: &str) -> Value {
    json!([{ "group": GATEWAY_API, "kind": "Gateway", "name": name }])
}

/// Adds a label to an object.
pub(super) fn set_label(object: &mut Value, name: &str, value: &str) {
    if let Some(labels) = object.pointer_mut("/metadata/labels") {
        set(labels, name, json!(value));
    }
}

/// Sets a field of an object.
pub(super) fn set(object: &mut Value, field: &str, value: Value) {
    if let Value::Object(fields) = object {
        fields.insert(field.to_owned(), value);
    }
}

/// An id as a part of names and as the value of a label: itself, or a hash where it has other
/// characters.
pub fn label(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = !id.starts_with('-') && !id.ends_with('-');
    match (1..=36).contains(&id.len()) && ends && id.bytes().all(plain) {
        true => id.to_owned(),
        false => digest(id),
    }
}

/// Twelve hexadecimal digits of a hash.
pub(super) fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    hex::encode(digest.get(..6).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_say_whose_they_are() {
        let uuid = "0192d3c4-1111-7aaa-8bbb-cccccccccccc";
        let owner = Owner { namespace: "n", cluster: "c", gateway: uuid, publish: None };
        assert_eq!(owner.name("-r0"), format!("imp-{uuid}-r0"));
        let odd = Owner { publish: Some(("A_b", 1)), ..owner.clone() };
        assert_eq!(odd.name(""), format!("imp-{}", digest("A_b")));
        let object = odd.of_spec(HTTP_ROUTE, "x", json!({}));
        let labelled = object.pointer("/metadata/labels/imp-gateway.io~1of-publish");
        assert_eq!(labelled, Some(&json!(digest("A_b"))));
    }
}
