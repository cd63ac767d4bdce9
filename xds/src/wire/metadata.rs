//! Metadata of a resource that is not part of its content: texts by namespace and name.

/// `envoy.config.core.v3.Metadata`, texts only. Other values are skipped.
///
/// The maps are lists of their entries, which are the same on the wire: every resource may keep
/// metadata, and a map's first node has room for eleven entries.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Metadata {
    /// By namespace, in reverse DNS notation.
    #[prost(message, repeated, tag = "1")]
    pub filter_metadata: Vec<Namespace>,
}

/// An entry of the map `filter_metadata`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Namespace {
    /// The namespace.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Its fields.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Struct>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Struct {
    /// By name.
    #[prost(message, repeated, tag = "1")]
    pub fields: Vec<Field>,
}

/// An entry of the map `fields`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Field {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// What is said under it.
    #[prost(message, optional, tag = "2")]
    pub value: Option<Value>,
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
        let value = |text: &str| Some(Value { string_value: Some(text.to_owned()) });
        let fields = texts.into_iter();
        let fields = fields.map(|(name, text)| Field { key: name.to_owned(), value: value(text) });
        let mut fields: Vec<_> = fields.collect();
        fields.shrink_to_fit();
        let value = Some(Struct { fields });
        Self { filter_metadata: vec![Namespace { key: namespace.to_owned(), value }] }
    }

    /// The text of this name; `None` if it is missing or another kind of value. Of entries with
    /// equal keys, the last one counts, as in every map of protobuf.
    pub fn text(&self, namespace: &str, name: &str) -> Option<&str> {
        let namespace = self.filter_metadata.iter().rfind(|entry| entry.key == namespace)?;
        let fields = &namespace.value.as_ref()?.fields;
        let field = fields.iter().rfind(|entry| entry.key == name)?;
        field.value.as_ref()?.string_value.as_deref()
    }
}
