//! An object as we want it: JSON, with the names that say where it goes.

use serde_json::Value;
use thiserror::Error;

use crate::kinds::{Kind, Scope};

/// Names one object of an API server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub kind: &'static Kind,
    /// None for objects of the cluster.
    pub namespace: Option<String>,
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object to be applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    key: Key,
    json: Value,
}

/// JSON that is no object of a known kind.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NotAnObject {
    #[error("{api_version} {kind} is no kind that the agent applies")]
    UnknownKind { api_version: String, kind: String },
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is an object of the cluster: it has no namespace")]
    Namespace(String),
}

impl Object {
    /// Takes an object with `apiVersion`, `kind`, `metadata.name` and, where the kind has one,
    /// `metadata.namespace`.
    pub fn new(json: Value) -> Result<Self, NotAnObject> {
        let key = Key::of(&json)?;
        Ok(Self { key, json })
    }

    pub fn key(&self) -> &Key {
        &self.key
    }

    pub fn json(&self) -> &Value {
        &self.json
    }
}

impl Key {
    /// The name of an object as the API server sends it, or as it is to be applied.
    pub fn of(json: &Value) -> Result<Self, NotAnObject> {
        let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str);
        let api_version = text("/apiVersion").ok_or(NotAnObject::Missing("apiVersion"))?;
        let kind = text("/kind").ok_or(NotAnObject::Missing("kind"))?;
        let name = text("/metadata/name").ok_or(NotAnObject::Missing("metadata.name"))?;
        let namespace = text("/metadata/namespace").map(str::to_owned);
        let Some(known) = Kind::find(api_version, kind) else {
            let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
            return Err(NotAnObject::UnknownKind { api_version, kind });
        };
        match (known.scope, &namespace) {
            (Scope::Namespaced, None) => return Err(NotAnObject::Missing("metadata.namespace")),
            (Scope::Cluster, Some(_)) => return Err(NotAnObject::Namespace(name.to_owned())),
            _ => {}
        }
        Ok(Self { kind: known, namespace, name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_is_named_by_kind_namespace_and_name() {
        let route = Object::new(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "a", "namespace": "edge"},
        }));
        assert_eq!(route.map(|r| r.key().to_string()), Ok("HTTPRoute edge/a".to_owned()));
    }

    #[test]
    fn what_is_no_object_of_ours_is_refused() {
        let refused = |json| Object::new(json).map(|o| o.key().to_string()).unwrap_err();
        let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
            "metadata": {"name": "eg", "namespace": "edge"}});
        assert_eq!(refused(class), NotAnObject::Namespace("eg".to_owned()));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}});
        assert_eq!(refused(secret), NotAnObject::Missing("metadata.namespace"));
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
        let (api_version, kind) = ("v1".to_owned(), "Pod".to_owned());
        assert_eq!(refused(pod), NotAnObject::UnknownKind { api_version, kind });
        assert_eq!(refused(json!({})), NotAnObject::Missing("apiVersion"));
    }
}
