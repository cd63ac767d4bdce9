//! Metadata of a resource that is not part of its content: texts by namespace and name.

use std::collections::BTreeMap;

/// `envoy.config.core.v3.Metadata`, texts only. Other values are skipped.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Metadata {
    /// By namespace, in reverse DNS notation.
    #[prost(btree_map = "string, message", tag = "1")]
    pub filter_metadata: BTreeMap<String, Struct>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Struct {
    /// By name.
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`, texts only.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Value {
    /// The text.
    #[prost(string, optional, tag = "3")]
    pub string_value: Option<String>,
}

impl Metadata {
    /// Metadata with these texts in one namespace.
    pub fn of<'t>(namespace: &str, texts: impl IntoIterator<Item = (&'t str, &'t str)>) -> Self {
        let value = |text: &str| Value { string_value: Some(text.to_owned()) };
        let fields = texts.into_iter().map(|(name, text)| (name.to_owned(), value(text)));
        let of_namespace = Struct { fields: fields.collect() };
        Self { filter_metadata: BTreeMap::from([(namespace.to_owned(), of_namespace)]) }
    }

    /// The text of this name; `None` if it is missing or another kind of value.
    pub fn text(&self, namespace: &str, name: &str) -> Option<&str> {
        let value = self.filter_metadata.get(namespace)?.fields.get(name)?;
        value.string_value.as_deref()
    }
}
