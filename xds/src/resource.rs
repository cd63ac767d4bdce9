//! Resources.

use std::fmt;
use std::sync::Arc;
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
    /// The only copy of the content: all streams write these bytes, each behind a head of its own.
    value: Bytes,
    extras: Option<Box<Extras>>,
    metadata: Option<Box<Encoded>>,
}

/// Encoded metadata. All resources may have some, for the few that are sent with it: one text costs less
/// than its parts, and a pointer to it less than a place for it.
#[derive(Clone, Debug)]
struct Encoded(Box<[u8]>);

/// What few resources have.
#[derive(Clone, Debug, Default)]
struct Extras {
    aliases: Box<[Arc<str>]>,
    children: Box<[(TypeUrl, Arc<str>)]>,
    required: Box<[(TypeUrl, Arc<str>)]>,
    ttl: Option<Duration>,
}

const _: () = assert!(size_of::<Inner>() == 80);

impl Resource {
    /// `value` is the encoded message without its `Any`. The version must change if, and only if,
    /// the content changes, on every replica alike: a hash of it (R40).
    pub fn new(name: impl Into<Arc<str>>, version: impl Into<Arc<str>>, value: Bytes) -> Self {
        let (name, version) = (name.into(), version.into());
        Self(Arc::new(Inner { name, version, value, extras: None, metadata: None }))
    }

    fn extras(&self) -> Option<&Extras> {
        self.0.extras.as_deref()
    }

    fn extras_mut(&mut self) -> &mut Extras {
        Arc::make_mut(&mut self.0).extras.get_or_insert_default()
    }

    /// Adds names that clients may also subscribe to (R18). They are part of the content.
    #[must_use]
    pub fn with_aliases(mut self, aliases: impl IntoIterator<Item = Arc<str>>) -> Self {
        self.extras_mut().aliases = aliases.into_iter().collect();
        self
    }

    /// The other names.
    pub fn aliases(&self) -> &[Arc<str>] {
        self.extras().map_or(&[], |extras| &extras.aliases)
    }

    /// Sets a TTL: clients that support TTLs drop the resource if they hear nothing of it for this
    /// long; while the server lives it sends heartbeats (R75). Envoy supports TTLs, but announces
    /// it only if its bootstrap lists it in `node.client_features`. The TTL is part of the content,
    /// so another one needs another version.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.extras_mut().ttl = Some(ttl);
        self
    }

    /// How long clients keep it without a heartbeat.
    pub fn ttl(&self) -> Option<Duration> {
        self.extras().and_then(|extras| extras.ttl)
    }

    /// Adds metadata about its origin: a trace, a request. Not part of the content: a resource is
    /// not sent again because only its metadata changed.
    #[must_use]
    pub fn with_metadata(mut self, metadata: wire::Metadata) -> Self {
        let encoded = Encoded(metadata.encode_to_vec().into());
        Arc::make_mut(&mut self.0).metadata = Some(Box::new(encoded));
        self
    }

    /// The metadata beside the content.
    pub fn metadata(&self) -> Option<wire::Metadata> {
        wire::Metadata::decode(self.encoded_metadata()?).ok()
    }

    pub(crate) fn encoded_metadata(&self) -> Option<&[u8]> {
        self.0.metadata.as_deref().map(|Encoded(bytes)| &**bytes)
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
        self.extras_mut().children = children.into_iter().collect();
        self
    }

    /// The resources that this one makes the client subscribe to.
    pub fn children(&self) -> &[(TypeUrl, Arc<str>)] {
        self.extras().map_or(&[], |extras| &extras.children)
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
        self.extras_mut().required = required.into_iter().collect();
        self
    }

    /// The resources that a client must have before this one.
    pub fn required(&self) -> &[(TypeUrl, Arc<str>)] {
        self.extras().map_or(&[], |extras| &extras.required)
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
        let names = self.0.name.len() + self.0.version.len() + ENVELOPE;
        let metadata = self.encoded_metadata().map_or(0, <[u8]>::len);
        self.0.value.len() + names + metadata + self.extras().map_or(0, Extras::size)
    }
}

impl Extras {
    fn size(&self) -> usize {
        self.aliases.iter().map(|alias| alias.len() + 2).sum()
    }
}

/// The largest resource that our client accepts, and half of the largest response. Programs must
/// refuse larger resources when they create them, because on the wire one would end the stream
/// again and again.
pub const MAX_RESOURCE_BYTES: usize = 8 << 20;

/// The size of lengths, tags and a type URL.
const ENVELOPE: usize = 100;
