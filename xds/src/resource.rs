//! Resources.

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

/// A named, versioned resource. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resource(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    name: Arc<str>,
    version: Arc<str>,
    value: Bytes,
    aliases: Arc<[Arc<str>]>,
    children: Arc<[(TypeUrl, Arc<str>)]>,
    required: Arc<[(TypeUrl, Arc<str>)]>,
    ttl: Option<Duration>,
    metadata: Option<Arc<wire::Metadata>>,
    /// The resource as field 2 of a response: encoded when it is first sent, then shared by all
    /// streams.
    fragment: OnceLock<(TypeUrl, Bytes)>,
}

impl Resource {
    /// `value` is the encoded message without its `Any`. The version must change if, and only if,
    /// the content changes, on every replica alike: a hash of it (R40).
    pub fn new(name: impl Into<Arc<str>>, version: impl Into<Arc<str>>, value: Bytes) -> Self {
        Self(Arc::new(Inner {
            name: name.into(),
            version: version.into(),
            value,
            aliases: Arc::default(),
            children: Arc::default(),
            required: Arc::default(),
            ttl: None,
            metadata: None,
            fragment: OnceLock::new(),
        }))
    }

    /// Adds names that clients may also subscribe to (R18). They are part of the content.
    #[must_use]
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = Arc<str>>) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.aliases = aliases.into_iter().collect();
        inner.fragment = OnceLock::new();
        self
    }

    /// The other names.
    pub fn aliases(&self) -> &[Arc<str>] {
        &self.0.aliases
    }

    /// Sets a TTL: clients that support TTLs drop the resource if they hear nothing of it for this
    /// long; while the server lives it sends heartbeats (R75). Envoy supports TTLs, but announces
    /// it only if its bootstrap lists it in `node.client_features`. The TTL is part of the content,
    /// so another one needs another version.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.ttl = Some(ttl);
        inner.fragment = OnceLock::new();
        self
    }

    /// How long clients keep it without a heartbeat.
    pub fn ttl(&self) -> Option<Duration> {
        self.0.ttl
    }

    /// Adds metadata about its origin: a trace, a request. Not part of the content: a resource is
    /// not sent again because only its metadata changed.
    #[must_use]
    pub fn with_metadata(mut self, metadata: wire::Metadata) -> Self {
        let inner = Arc::make_mut(&mut self.0);
        inner.metadata = Some(Arc::new(metadata));
        inner.fragment = OnceLock::new();
        self
    }

    /// The metadata beside the content.
    pub fn metadata(&self) -> Option<&wire::Metadata> {
        self.0.metadata.as_deref()
    }

    /// Names the resources that this one makes the client subscribe to: the endpoints of a cluster,
    /// the secrets of a listener. Each time this one is sent they follow, changed or not, because
    /// the client may have dropped them with the parent (R62, R63); and whatever refers to the
    /// parent waits until they are acknowledged (R61), though not longer than the barrier's
    /// timeout. Children of children follow too, so they must not form a cycle.
    #[must_use]
    pub fn with_children(
        mut self,
        children: impl IntoIterator<Item = (TypeUrl, Arc<str>)>,
    ) -> Self {
        Arc::make_mut(&mut self.0).children = children.into_iter().collect();
        self
    }

    /// The resources that this one makes the client subscribe to.
    pub fn children(&self) -> &[(TypeUrl, Arc<str>)] {
        &self.0.children
    }

    /// Names the resources that a client must have before it gets this one: the routes that a scope
    /// refers to by name. A stream sends this one only when its client has acknowledged the current
    /// version of each required resource that the resource set has with content, or had it when the
    /// stream began (R68). Until then it stays due, and holds up nothing else. If the client rejects
    /// a required resource, this one waits for a new version of either. A client that never
    /// subscribes to a required resource never gets this one.
    ///
    /// Required resources of required resources are waited for in turn, so they must not form a
    /// cycle. Full responses of the state-of-the-world protocol cannot leave anything out: there, only
    /// the phases give an order.
    #[must_use]
    pub fn with_required(
        mut self,
        required: impl IntoIterator<Item = (TypeUrl, Arc<str>)>,
    ) -> Self {
        Arc::make_mut(&mut self.0).required = required.into_iter().collect();
        self
    }

    /// The resources that a client must have before this one.
    pub fn required(&self) -> &[(TypeUrl, Arc<str>)] {
        &self.0.required
    }

    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    pub fn version(&self) -> &Arc<str> {
        &self.0.version
    }

    /// The encoded message.
    pub fn value(&self) -> &Bytes {
        &self.0.value
    }

    /// Its approximate size in a response.
    pub(crate) fn size(&self) -> usize {
        let aliases: usize = self.0.aliases.iter().map(|alias| alias.len() + 2).sum();
        let metadata = self.metadata().map_or(0, wire::Metadata::encoded_len);
        let names = self.0.name.len() + self.0.version.len() + aliases;
        self.0.value.len() + names + metadata + ENVELOPE
    }

    /// The resource as field 2 of a delta response; with its TTL only for clients that support it.
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

    /// The same with other bytes as content; encoded each time.
    pub(crate) fn encode(&self, type_url: &TypeUrl, value: Bytes, tells_ttl: bool) -> Bytes {
        let any = wire::Any { type_url: type_url.to_string(), value };
        let aliases = self.0.aliases.iter().map(ToString::to_string).collect();
        let metadata = self.metadata().cloned();
        let head = self.head(tells_ttl);
        fragment(wire::Resource { resource: Some(any), aliases, metadata, ..head })
    }

    /// A heartbeat for this version.
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

/// The largest resource that our client accepts, and half of the largest response. Programs must
/// refuse larger resources when they create them, because on the wire one would end the stream
/// again and again.
pub const MAX_RESOURCE_BYTES: usize = 8 << 20;

/// The size of lengths, tags and a type URL.
const ENVELOPE: usize = 100;

/// A resource without content, which says that there is none of this name (R70).
pub(crate) fn absent(name: &str) -> Bytes {
    let (name, aliases) = (name.to_owned(), vec![name.to_owned()]);
    fragment(wire::Resource { name, aliases, ..Default::default() })
}

fn fragment(resource: wire::Resource) -> Bytes {
    let response = wire::DeltaDiscoveryResponse { resources: vec![resource], ..Default::default() };
    response.encode_to_vec().into()
}

/// The resource of a fragment as a separate message, in the same bytes.
pub(crate) fn unframed(fragment: Bytes) -> Bytes {
    // A key of one byte, then the varint length, whose bytes but the last have the continuation
    // bit.
    let goes_on = fragment.iter().skip(1).take_while(|byte| **byte >= 0x80).count();
    fragment.slice((goes_on + 2).min(fragment.len())..)
}
