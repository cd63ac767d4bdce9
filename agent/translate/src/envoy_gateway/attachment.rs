//! Which Gateway, and how its owner says so.

use serde_json::{Value, json};

/// The label of a Gateway that one of ours attaches to: its id.
pub const GATEWAY_LABEL: &str = "imp-gateway.io/gateway";

/// Host patterns that lead to us although no publish has them yet, with commas: an annotation.
pub const HOSTS_ANNOTATION: &str = "imp-gateway.io/hosts";

/// How the Gateway is used: `shared`, as without it, or `dedicated` to us. An annotation.
pub const MODE_ANNOTATION: &str = "imp-gateway.io/mode";

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

    pub(super) fn metadata(&self) -> Value {
        let (managed_by, us) = MANAGED_BY;
        json!({
            "name": self.object_name(),
            "namespace": self.namespace,
            "labels": {managed_by: us, GATEWAY_LABEL: self.gateway_id},
        })
    }
}
