//! How the embedding program configures its types.

use std::time::Duration;

use bytes::Bytes;

use crate::{Resource, TypeUrl};

/// The default of [`TypeRules::max_response_bytes`].
const MAX_RESPONSE_BYTES: usize = 2 << 20;

/// The rules of one resource type.
#[derive(Clone, Debug)]
pub struct TypeRules {
    pub type_url: TypeUrl,
    /// Upserts are sent in ascending phases, each after the ACK of the previous one; removals in
    /// descending phases after all upserts (R60, R61). Equal phases do not wait for each other, but
    /// keep the order of the configuration: endpoints follow directly after their clusters (R62).
    pub phase: u8,
    /// How many resources a response may have.
    pub batching: Batching,
    /// Never tells a client that a resource of this type is removed or missing: Envoy drops a
    /// filter at once when its ECDS resource is removed and answers 500 (R72).
    pub never_remove: bool,
    /// Answers a missing name with a resource of this name without content, instead of a removal:
    /// what Envoy expects of on-demand virtual hosts (R70).
    pub missing_is_empty: bool,
    /// Names are `<parent>/<rest>`, split at the last `/`. When a parent, which is of this type, is
    /// sent, those of its names that the client subscribed to are sent again: an update of routes
    /// clears the table of virtual hosts (R70).
    pub named_after: Option<TypeUrl>,
    /// Whether a first request without names means all resources (R10, R12).
    pub legacy_wildcard: bool,
    /// For the state-of-the-world protocol: a response has everything, and missing resources are
    /// removed. Envoy treats listeners and clusters like that, and expects only changes of other
    /// types (R50).
    pub full_state: bool,
    /// The most bytes of resources in a response, unless one resource alone is larger: the rest
    /// follows after the ACK (R93). Full responses cannot be split. `usize::MAX` for a type whose
    /// first response clients treat as complete.
    pub max_response_bytes: usize,
    /// Makes equal content differ in bytes. Members of a rejected batch are sent again with this:
    /// Envoy acknowledges an unchanged member without applying it.
    pub restamp: Option<fn(&Resource, u32) -> Bytes>,
    /// A client that has nothing of this type gets it only once it has acknowledged its first answers
    /// of these types, with all that they make it subscribe to (R69). For filters without which Envoy
    /// does not open a port: it then opens it with all routes, though they came in many responses. A
    /// client that does not subscribe to these types, or not to what they refer to, is waited for as
    /// long as a barrier, and any client for a minute. Resources of this type must not be children of
    /// others, which would wait for them.
    pub after_first_answers: Vec<TypeUrl>,
    /// Whether a resource is treated as if a client had acknowledged it before, because a client
    /// cannot find it wrong. For [`Batching::Single`] and [`Batching::UpTo`].
    pub needs_no_proof: Option<fn(&Resource) -> bool>,
    /// The shape of a resource. Those of one shape differ only in what a client takes at once and cannot
    /// find wrong: the name and the address of a cluster that is not resolved, checked or encrypted. Once a
    /// client has acknowledged one, later phases do not wait for its answers about others. For the delta
    /// protocol.
    pub shape: Option<fn(&Resource) -> Option<u64>>,
    /// Another name that a client may hold a resource under, from a server that named it differently.
    /// Its removal goes in the message with this one, and not after all others: Envoy refuses two
    /// scopes with one key, and would serve nothing between two messages.
    pub replaces: Option<fn(&Resource) -> Option<String>>,
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
            after_first_answers: Vec::new(),
            needs_no_proof: None,
            shape: None,
            replaces: None,
        }
    }

    /// The limits of one response.
    pub(crate) fn limits(&self) -> Limits {
        let all = Limit { resources: usize::MAX, bytes: self.max_response_bytes };
        match self.batching {
            Batching::All => Limits { tells_proven: false, unproven: all, proven: all },
            Batching::Single => {
                let unproven = Limit { resources: 1, bytes: usize::MAX };
                Limits { tells_proven: true, unproven, proven: all }
            }
            Batching::UpTo { unproven, unproven_bytes, proven, proven_bytes } => Limits {
                tells_proven: true,
                unproven: Limit { resources: unproven, bytes: unproven_bytes },
                proven: Limit { resources: proven, bytes: proven_bytes },
            },
        }
    }
}

/// How many resources a response may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// Everything that changed.
    All,
    /// One, so that a NACK identifies the wrong one; resources that a client has acknowledged
    /// before ([`crate::ResourceSet::mark_proven`]) are sent together.
    Single,
    /// A limited number, which keeps the search for a wrong one short. Resources that a client has
    /// acknowledged before are sent apart from the others, with larger limits. At least one resource
    /// goes into a response, however large it is. Replaces [`TypeRules::max_response_bytes`], which
    /// then limits removals only.
    UpTo { unproven: usize, unproven_bytes: usize, proven: usize, proven_bytes: usize },
}

/// The limits of one response of a type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Whether proven resources and others are sent apart.
    pub(crate) tells_proven: bool,
    pub(crate) unproven: Limit,
    pub(crate) proven: Limit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) resources: usize,
    pub(crate) bytes: usize,
}

/// How changes are delayed to be sent together, on each stream. The first after a quiet time is
/// sent at once, and so are first answers and requested names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Debounce {
    /// Further changes wait until nothing changed for this long: 10 to 25 ms are enough for a
    /// burst.
    pub quiet: Duration,
    /// But not longer than this: 500 ms where changes never stop.
    pub max: Duration,
}

/// Limits and timeouts of a server.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The configured types. Requests for others are answered without resources (R6).
    pub types: Vec<TypeRules>,
    /// How long a phase waits for the ACK of the previous one (R61).
    pub barrier_timeout: Duration,
    /// How long the removal of a phase-0 resource waits after everything else is acknowledged, for
    /// requests in flight (R64).
    pub removal_grace: Duration,
    /// How long changes are delayed to be sent together (R84). `None` sends the first at once, and
    /// what changes until it is acknowledged together, so that the client sets the pace. A debounce
    /// is for fleets where fewer responses are worth more than milliseconds.
    pub debounce: Option<Debounce>,
    /// The most streams; one more is refused with `RESOURCE_EXHAUSTED` (R83).
    pub max_streams: usize,
    /// The largest request, in bytes: the first one after a reconnect names every resource (R86).
    pub max_request_bytes: usize,
    /// The most memory for the names that one stream subscribes to, in bytes.
    pub max_subscription_bytes: usize,
    /// The most streams that have not got everything yet: they need memory for their responses and
    /// for first requests with everything that a client has (R82).
    pub max_syncing: usize,
    /// How long a new stream waits for such a slot before it is refused with `RESOURCE_EXHAUSTED`
    /// (R83).
    pub sync_wait: Duration,
    /// How long a client may take for its first message.
    pub first_message_timeout: Duration,
    /// How long a client may leave a response unread; then the stream ends, at the latest after
    /// twice this time, which is the interval of checks (R89).
    pub send_timeout: Duration,
    /// How long a client may leave a response unanswered; then the stream ends, because nothing of
    /// that type could be sent on it any more (R80). Envoy may need half a minute for a large one.
    pub ack_timeout: Duration,
    /// Streams end after this time plus up to a tenth, drawn per stream, so that clients are
    /// distributed over the servers again (R85). `None` for never.
    pub max_stream_age: Option<Duration>,
}

impl ServerConfig {
    /// A configuration with these types and the default limits.
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
