//! Renders what leads calls from a Gateway of Envoy Gateway to a gateway of ours, as objects of Kubernetes.
//!
//! The Gateway stays its owner's: listeners, TLS, routes and wildcards. The objects add an internal listener
//! with our chain to its Envoys, and a virtual host that leads there for the hosts that we serve; everything
//! behind that listener (scopes, clusters on demand, enforcement) comes from the agent, so a publish writes
//! no object unless it brings a host that no pattern covers.

mod bootstrap;
mod json;
mod listeners;
mod patches;

use serde_json::{Value, json};

pub use bootstrap::{Agent, CERTIFICATES, envoy_proxy};
pub use json::NoJson;
pub use listeners::{Led, Listener, Protocol, lead};
pub use patches::{MAX_HOST_BYTES, policy};

/// The label of a Gateway that one of ours attaches to: its id.
pub const GATEWAY_LABEL: &str = "imp-gateway.io/gateway";

/// How it attaches. Absent means shared.
pub const ATTACH_LABEL: &str = "imp-gateway.io/attach";

/// Host patterns that lead to us although no publish has them yet, with commas: an annotation.
pub const HOSTS_ANNOTATION: &str = "imp-gateway.io/hosts";

/// The label of objects that the agent wrote.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "imp-gateway");

/// A Gateway, and the gateway of ours that attaches to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub namespace: String,
    pub name: String,
    /// Of ours.
    pub gateway_id: String,
}

impl Attachment {
    /// The name of the objects in the Gateway's namespace.
    pub fn object_name(&self) -> String {
        format!("imp-{}", self.name)
    }

    /// The Secret with the certificate by which its Envoys are known, in their namespace.
    pub fn secret_name(&self) -> String {
        format!("imp-{}.{}", self.namespace, self.name)
    }

    fn metadata(&self) -> Value {
        let (managed_by, us) = MANAGED_BY;
        json!({
            "name": self.object_name(),
            "namespace": self.namespace,
            "labels": {managed_by: us, GATEWAY_LABEL: self.gateway_id},
        })
    }
}

/// The files of a node's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// PEM.
    pub authority: String,
    /// PEM.
    pub certificate: String,
    /// PEM.
    pub key: String,
    /// What tells a certificate that is still good from one to be replaced.
    pub annotations: Vec<(&'static str, String)>,
}

/// The Secret with the certificate, as Envoy reads it.
pub fn secret(attachment: &Attachment, envoys: &str, files: &Certificate) -> Value {
    let mut metadata = attachment.metadata();
    metadata["name"] = attachment.secret_name().into();
    metadata["namespace"] = envoys.into();
    metadata["annotations"] =
        files.annotations.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "type": "Opaque",
        "stringData": {
            "ca.pem": files.authority,
            "node.pem": files.certificate,
            "node.key": files.key,
            "sds.yaml": bootstrap::sds(),
        },
    })
}

#[cfg(test)]
mod tests;
