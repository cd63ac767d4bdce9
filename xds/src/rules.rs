//! How the embedding program wants its types served.

use std::time::Duration;

use bytes::Bytes;

use crate::{Resource, TypeUrl};

/// Of [`TypeRules::max_response_bytes`].
const MAX_RESPONSE_BYTES: usize = 2 << 20;

/// The rules of one resource type.
#[derive(Clone, Debug)]
pub struct TypeRules {
    /// Which type.
    pub type_url: TypeUrl,
    /// Upserts go out in ascending phases, each behind the ACK of the one before; removals in
    /// descending phases after all upserts (R60, R61). Equal phases do not wait for each other, but
    /// keep the order of the configuration: endpoints go right behind their clusters (R62).
    pub phase: u8,
    /// How many resources a response may hold.
    pub batching: Batching,
    /// Never tell a client that a resource of this type is gone or missing: Envoy drops a filter at
    /// once when its ECDS resource is removed and answers 500 (R72).
    pub never_remove: bool,
    /// A missing name is answered with a resource of this name that has no content, instead of a
    /// removal: what Envoy expects of virtual hosts on demand (R70).
    pub missing_is_empty: bool,
    /// Names are `<parent>/<rest>`, cut at the last `/`. When a parent, which is of this type, is sent,
    /// those of its names that the client subscribed to are sent again: an update of routes clears the
    /// table of virtual hosts (R70).
    pub named_after: Option<TypeUrl>,
    /// Whether a first request without names means all resources (R10, R12).
    pub legacy_wildcard: bool,
    /// Over the state-of-the-world protocol: a response holds everything, and what is missing is gone.
    /// Envoy takes listeners and clusters like that, and of other types only what changed (R50).
    pub full_state: bool,
    /// A response holds so many bytes of resources at most, or one resource: what is due beyond that
    /// follows behind the ACK (R93). Full responses cannot be split. `usize::MAX` for a type of which
    /// a client acts on the first response as if it were everything.
    pub max_response_bytes: usize,
    /// Makes equal content different in bytes. Members of a refused batch are sent again with this:
    /// Envoy acknowledges an unchanged member without applying it.
    pub restamp: Option<fn(&Resource, u32) -> Bytes>,
}

impl TypeRules {
    /// The usual rules: all at once, wildcard allowed.
    pub fn new(type_url: impl Into<TypeUrl>, phase: u8) -> Self {
        Self {
            type_url: type_url.into(),
            phase,
            batching: Batching::All,
            never_remove: false,
            missing_is_empty: false,
            named_after: None,
            legacy_wildcard: true,
            full_state: false,
            max_response_bytes: MAX_RESPONSE_BYTES,
            restamp: None,
        }
    }
}

/// How many resources a response may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Everything that changed.
    All,
    /// One, so that a NACK names its culprit; resources that a client has accepted before
    /// ([`crate::ResourceSet::mark_proven`]) go together.
    Single,
}

/// How changes wait for each other, on each stream. The first after a quiet time goes out at once, and
/// so do first answers and what is asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// Further changes wait until nothing changed for so long: 10 to 25 ms are enough for a burst.
    pub quiet: Duration,
    /// But not longer than this: 500 ms where changes never rest.
    pub max: Duration,
}

/// Limits and times of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The types with rules of their own. Others are unknown: they are answered, and hold nothing (R6).
    pub types: Vec<TypeRules>,
    /// How long a phase waits for the ACK of the one before (R61).
    pub barrier_timeout: Duration,
    /// How long the removal of a phase-0 resource waits after everything else is acknowledged, for
    /// requests in flight (R64).
    pub removal_grace: Duration,
    /// How long changes wait for others (R84). None: the first goes out at once, and what changes
    /// until it is acknowledged goes out together, so that the client sets the pace. A debounce is for
    /// fleets where fewer responses are worth more than milliseconds.
    pub debounce: Option<Debounce>,
    /// Streams at a time; one more is refused with `RESOURCE_EXHAUSTED` (R83).
    pub max_streams: usize,
    /// Largest request, in bytes: the first one after a reconnect names every resource (R86).
    pub max_request_bytes: usize,
    /// Memory for the names that one stream subscribes to, in bytes.
    pub max_subscription_bytes: usize,
    /// Streams at a time that have not got everything yet: what costs memory is their responses, and
    /// first requests that say what a client holds (R82).
    pub max_syncing: usize,
    /// How long a new stream waits to be one of them before it is refused with
    /// `RESOURCE_EXHAUSTED` (R83).
    pub sync_wait: Duration,
    /// How long a client may take for its first message.
    pub first_message_timeout: Duration,
    /// How long a client may leave a response unread; then the stream ends, at the latest after twice
    /// that: so often it is looked at (R89).
    pub send_timeout: Duration,
    /// How long a client may leave a response unanswered; then the stream ends, because nothing of
    /// that type could be sent on it any more (R80). Envoy may need half a minute for a large one.
    pub ack_timeout: Duration,
    /// Streams end after this time and up to a tenth more, drawn per stream, so that clients spread
    /// over the servers again (R85). None: never.
    pub max_stream_age: Option<Duration>,
}

impl ServerConfig {
    /// With these types and the default limits.
    pub fn new(types: Vec<TypeRules>) -> Self {
        Self {
            types,
            barrier_timeout: Duration::from_secs(2),
            removal_grace: Duration::from_secs(1),
            debounce: None,
            max_streams: 10_000,
            max_request_bytes: 32 << 20,
            max_subscription_bytes: 64 << 20,
            max_syncing: 32,
            sync_wait: Duration::from_secs(10),
            first_message_timeout: Duration::from_secs(15),
            send_timeout: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(300),
            max_stream_age: Some(Duration::from_secs(10 * 3600)),
        }
    }
}
