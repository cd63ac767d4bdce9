//! The certificate by which somebody else's Envoys are known.

use serde_json::{Value, json};

use super::attachment::Attachment;
use super::bootstrap::sds;

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
            "sds.yaml": sds(),
        },
    })
}
