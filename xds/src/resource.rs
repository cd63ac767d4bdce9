//! What is served.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::wire;

/// The type URL of a resource type, `type.googleapis.com/package.Message`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeUrl(Arc<str>);

impl TypeUrl {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for TypeUrl {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for TypeUrl {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One named, versioned resource. Cheap to clone: each stream that is sent it does.
#[derive(Clone, Debug)]
pub struct Resource(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    name: Arc<str>,
    version: Arc<str>,
    value: Bytes,
    aliases: Arc<[Arc<str>]>,
    children: Arc<[(TypeUrl, Arc<str>)]>,
    ttl: Option<Duration>,
    metadata: Option<Arc<wire::Metadata>>,
    /// The resource as field 2 of a response: encoded when it is first sent, then shared by all streams.
    fragment: OnceLock<(TypeUrl, Bytes)>,
}

impl Resource {
    /// `value` is the encoded message without its `Any`. The version must change when, and only
    /// when, the content does, on every replica alike: a hash of it (R40).
    pub fn new(name: impl Into<Arc<str>>, version: impl Into<Arc<str>>, value: Bytes) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            version: version.into(),
            value,
            aliases: Arc::default(),
            children: Arc::default(),
            ttl: None,
            metadata: None,
            fragment: OnceLock::new(),
        }))
    }

    /// Other names that clients may subscribe to it by (R18). They are part of the content.
    #[must_use]
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = Arc<str>>) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.aliases = aliases.into_iter().collect();
        inner.fragment = OnceLock::new();
        self
    }

    /// Other names of it.
    pub fn aliases(&self) -> &[Arc<str>] {
        &self.0.aliases
    }

    /// Clients that know of TTLs drop it when they have not heard of it for so long; as long as the
    /// server lives they do (R75). Envoy knows of TTLs, but says so only if its bootstrap lists it among
    /// `node.client_features`. A part of the content, so another TTL needs another version.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.ttl = Some(ttl);
        inner.fragment = OnceLock::new();
        self
    }

    /// For how long clients hold it without hearing of it.
    pub fn ttl(&self) -> Option<Duration> {
        self.0.ttl
    }

    /// Says where it comes from: a trace, a request. No part of the content: a resource of the same
    /// version is not sent again because its metadata are others.
    #[must_use]
    pub fn with_metadata(mut self, metadata: wire::Metadata) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.metadata = Some(Arc::new(metadata));
        inner.fragment = OnceLock::new();
        self
    }

    /// What travels beside the content.
    pub fn metadata(&self) -> Option<&wire::Metadata> {
        self.0.metadata.as_deref()
    }

    /// Names the resources that this one makes the client subscribe to: the endpoints of a cluster,
    /// the secrets of a listener. Each time this one is sent they follow, changed or not, because the
    /// client may have dropped them with the parent (R62, R63); and what refers to the parent waits
    /// until they are acknowledged (R61), though not longer than the barrier's timeout. Children of
    /// children follow too, so they must not form a circle.
    #[must_use]
    pub fn with_children(
        mut self,
        children: impl IntoIterator<Item = (TypeUrl, Arc<str>)>,
    ) -> Self {
        Arc::make_mut(&mut self.0).children = children.into_iter().collect();
        self
    }

    /// What this one makes the client subscribe to.
    pub fn children(&self) -> &[(TypeUrl, Arc<str>)] {
        &self.0.children
    }

    /// Unique within its type.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Of its content.
    pub fn version(&self) -> &Arc<str> {
        &self.0.version
    }

    /// The encoded message.
    pub fn value(&self) -> &Bytes {
        &self.0.value
    }

    /// About as many bytes as it takes in a response.
    pub(crate) fn size(&self) -> usize {
        let aliases: usize = self.0.aliases.iter().map(|alias| alias.len() + 2).sum();
        let metadata = self.metadata().map_or(0, wire::Metadata::encoded_len);
        let names = self.0.name.len() + self.0.version.len() + aliases;
        self.0.value.len() + names + metadata + ENVELOPE
    }

    /// The resource as field 2 of a delta response; its TTL only for who knows of them.
    pub(crate) fn fragment(&self, type_url: &TypeUrl, tells_ttl: bool) -> Cow<'_, Bytes> {
        let encode = || self.encode(type_url, self.0.value.clone(), tells_ttl);
        if self.0.ttl.is_some() && !tells_ttl {
            return Cow::Owned(encode());
        }
        match self.0.fragment.get_or_init(|| (type_url.clone(), encode())) {
            (encoded_as, fragment) if encoded_as == type_url => Cow::Borrowed(fragment),
            _ => Cow::Owned(encode()), // one resource under two types
        }
    }

    /// The same with other bytes for the content; encoded each time.
    pub(crate) fn encode(&self, type_url: &TypeUrl, value: Bytes, tells_ttl: bool) -> Bytes {
        let any = wire::Any { type_url: type_url.to_string(), value };
        let aliases = self.0.aliases.iter().map(ToString::to_string).collect();
        let metadata = self.metadata().cloned();
        let head = self.head(tells_ttl);
        fragment(wire::Resource { resource: Some(any), aliases, metadata, ..head })
    }

    /// Says that it still counts, in this version.
    pub(crate) fn heartbeat(&self) -> Bytes {
        fragment(self.head(true))
    }

    fn head(&self, tells_ttl: bool) -> wire::Resource {
        wire::Resource {
            name: self.0.name.to_string(),
            version: self.0.version.to_string(),
            ttl: self.0.ttl.filter(|_| tells_ttl).map(Into::into),
            ..Default::default()
        }
    }
}

/// What a client of ours takes as one resource, and a half of what it takes as one response. Whoever
/// makes resources refuses a larger one there; on the wire it would end the stream, again and again.
pub const MAX_RESOURCE_BYTES: usize = 8 << 20;

/// Lengths, tags and a type URL.
const ENVELOPE: usize = 100;

/// Says that there is nothing of this name, as a resource without content (R70).
pub(crate) fn absent(name: &str) -> Bytes {
    let (name, aliases) = (name.to_owned(), vec![name.to_owned()]);
    fragment(wire::Resource { name, aliases, ..Default::default() })
}

fn fragment(resource: wire::Resource) -> Bytes {
    let response = wire::DeltaDiscoveryResponse { resources: vec![resource], ..Default::default() };
    response.encode_to_vec().into()
}

/// The resource of a fragment as a message of its own, in the same bytes.
pub(crate) fn unframed(fragment: Bytes) -> Bytes {
    // A key of one byte, and the length, of which all bytes but the last one say that it goes on.
    let goes_on = fragment.iter().skip(1).take_while(|byte| **byte >= 0x80).count();
    fragment.slice((goes_on + 2).min(fragment.len())..)
}
